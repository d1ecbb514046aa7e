package setup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/spf13/cobra"

	"github.com/shale-storage/shale/csi/driver"
	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/csi/keylock"
	"github.com/shale-storage/shale/csi/mounter"
)

// registrationSocket is our file in the kubelet's directory of plugins.
const registrationSocket = driver.Name + "-reg.sock"

type nodeFlags struct {
	endpoint, node, socket string
	// kubeletPath is where the kubelet finds the endpoint; empty leaves the registration to a sidecar.
	kubeletPath, registrationDir string
	maxVolumes                   int64
}

func newNode(p *process, o Options) *cobra.Command {
	var f nodeFlags
	c := &cobra.Command{
		Use: "node", Short: "Serve CSI Identity and Node", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.runNode(c.Context(), f, o.Version) },
	}
	c.Flags().StringVar(&f.endpoint, "endpoint", "unix:///csi/csi.sock", "socket to serve CSI at")
	c.Flags().StringVar(&f.node, "node", "", "name of this Kubernetes node (required)")
	c.Flags().StringVar(&f.socket, "initiator-socket", "/run/shale/initiator.sock", "socket of the initiator")
	c.Flags().StringVar(&f.kubeletPath, "kubelet-registration-path", "",
		"path of the endpoint's socket as the kubelet sees it; empty if a sidecar registers the plugin")
	c.Flags().StringVar(&f.registrationDir, "registration-dir", "/registration", "where the kubelet looks for plugins")
	c.Flags().Int64Var(&f.maxVolumes, "max-volumes", 128, "volumes that this node may use at a time")
	_ = c.MarkFlagRequired("node")
	return c
}

func (p *process) runNode(ctx context.Context, f nodeFlags, version string) error {
	listener, err := listen(ctx, f.endpoint)
	if err != nil {
		return err
	}
	initiator := api.NewClient(f.socket)
	ready := func(ctx context.Context) error { _, err := initiator.Health(ctx); return err }
	plugin := newPlugin(p.log, newCallSeconds(p.metrics))
	csi.RegisterIdentityServer(plugin, driver.NewIdentity(version, ready))
	csi.RegisterNodeServer(plugin, driver.NewNode(driver.NodeOptions{
		Node: f.node, MaxVolumes: f.maxVolumes, Topology: driver.Topology(),
		Initiator: initiator, Mounter: mounter.New(), Locks: &keylock.Locks{},
	}))
	p.log.Info("CSI node plugin is up", "endpoint", f.endpoint, "node", f.node, "version", version)
	// The plugin lives as long as it serves: one that waits for the initiator must not be restarted for it.
	alive := func(context.Context) error { return nil }
	parts := []func(context.Context) error{
		func(ctx context.Context) error { return serve(ctx, plugin, listener) },
		func(ctx context.Context) error { return serveHealth(ctx, p.health, p.metrics, alive) },
	}
	if f.kubeletPath != "" {
		parts = append(parts, func(ctx context.Context) error { return p.register(ctx, f) })
	}
	return together(ctx, parts...)
}

// register offers the plugin to the kubelet until ctx ends, or the kubelet refuses it.
func (p *process) register(ctx context.Context, f nodeFlags) error {
	listener, err := listen(ctx, unixScheme+filepath.Join(f.registrationDir, registrationSocket))
	if err != nil {
		return err
	}
	offer, refused := newRegistration(f.kubeletPath, p.log)
	return together(ctx,
		func(ctx context.Context) error { return serve(ctx, offer, listener) },
		func(ctx context.Context) error {
			select {
			case cause := <-refused:
				return fmt.Errorf("register with the kubelet: %w", errors.New(cause))
			case <-ctx.Done():
				return nil
			}
		},
	)
}
