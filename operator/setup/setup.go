package setup

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

const (
	// apiQPS and apiBurst bound the calls at the API server: a storenode that dies means one for each of its Primaries.
	apiQPS   = 500
	apiBurst = 1000
	// defaultReplaceAfter leaves time for a reboot.
	defaultReplaceAfter = 10 * time.Minute
)

// ErrEnded says that the operator ended though nobody asked it to: it does not lead any more, or cannot reach the API
// server. It is to start over.
var ErrEnded = errors.New("the operator ended")

// New is the command operator.
func New(version string) *cobra.Command {
	var o Options
	level := slog.LevelInfo
	c := &cobra.Command{
		Use: "operator", Short: "Place Shards, promote Backups, replace lost Replicas", Version: version,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			ctrl.SetLogger(logr.FromSlogHandler(o.Log.Handler()))
			return run(c.Context(), o, version)
		},
	}
	c.Flags().StringVar(&o.Namespace, "namespace", "", "namespace of Shale's own objects: the storenodes' leases")
	c.Flags().StringVar(&o.Node, "node", "",
		"Kubernetes node that the operator runs on: its own host is not asked whether others can be reached")
	c.Flags().BoolVar(&o.LeaderElect, "leader-elect", false, "work only while leading, so that several may run")
	c.Flags().StringVar(&o.MetricsAddr, "metrics-addr", "0", "host:port of /metrics; 0 for none")
	c.Flags().StringVar(&o.HealthAddr, "health-addr", "0", "host:port of /healthz and /readyz; 0 for none")
	c.Flags().DurationVar(&o.ReplaceAfter, "replace-after", defaultReplaceAfter,
		"how long a Replica may be lost before another takes its place")
	c.Flags().BoolVar(&o.Evacuate, "evacuate-dead-nodes", true,
		"detach volumes of a node that is dead, and end its pods that use them, so that they run elsewhere")
	c.Flags().TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return c
}

func run(ctx context.Context, o Options, version string) error {
	if o.Namespace == "" {
		return errors.New("read flags: --namespace is missing")
	}
	if o.ReplaceAfter <= 0 {
		return errors.New("read flags: --replace-after must be positive")
	}
	rest, err := config.GetConfig()
	if err != nil {
		return errors.Join(errors.New("find the API server: neither in a pod nor KUBECONFIG"), err)
	}
	rest.QPS, rest.Burst = apiQPS, apiBurst
	o.Registry = metrics.Registry
	m, err := Manager(ctx, rest, o)
	if err == nil {
		o.Log.Info("Operator is up", "version", version, "namespace", o.Namespace)
		err = m.Start(ctx)
	}
	if err != nil && ctx.Err() == nil {
		return errors.Join(ErrEnded, err)
	}
	return err
}
