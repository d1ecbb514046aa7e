package setup

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/driver"
	"github.com/shale-storage/shale/csi/keylock"
	"github.com/shale-storage/shale/csi/volumes"
)

const (
	// apiQPS and apiBurst bound the calls at the API server; a waiting CreateVolume makes five a second.
	apiQPS   = 100
	apiBurst = 200
)

func newController(p *process, o Options) *cobra.Command {
	var endpoint string
	c := &cobra.Command{
		Use: "controller", Short: "Serve CSI Identity and Controller", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := newAPI()
			if err != nil {
				return err
			}
			return p.runController(c.Context(), endpoint, o.Version, api)
		},
	}
	c.Flags().StringVar(&endpoint, "endpoint", "unix:///csi/csi.sock", "socket to serve CSI at")
	return c
}

// newAPI reaches the API server as the pod's ServiceAccount, or by KUBECONFIG.
func newAPI() (client.Client, error) {
	rest, err := config.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	rest.QPS, rest.Burst = apiQPS, apiBurst
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register types: %w", err)
	}
	api, err := client.New(rest, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	return api, nil
}

func (p *process) runController(ctx context.Context, endpoint, version string, api client.Client) error {
	listener, err := listen(ctx, endpoint)
	if err != nil {
		return err
	}
	ready := func(context.Context) error { return nil }
	plugin := newPlugin(p.log, newCallSeconds(p.metrics))
	csi.RegisterIdentityServer(plugin, driver.NewIdentity(version, ready))
	csi.RegisterControllerServer(plugin, driver.NewController(volumes.New(api), &keylock.Locks{}))
	p.log.Info("CSI controller is up", "endpoint", endpoint, "version", version)
	return together(ctx,
		func(ctx context.Context) error { return serve(ctx, plugin, listener) },
		func(ctx context.Context) error { return serveHealth(ctx, p.health, p.metrics, ready) },
	)
}
