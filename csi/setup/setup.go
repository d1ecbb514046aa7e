package setup

import (
	"context"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

// Options are what the program itself gives.
type Options struct {
	Version string
}

// process is what each command has.
type process struct {
	log     *slog.Logger
	metrics *prometheus.Registry
	health  string
}

// New is the command shale-csi.
func New(o Options) *cobra.Command {
	root := &cobra.Command{
		Use: "shale-csi", Short: "Shale's CSI driver", Version: o.Version,
		SilenceUsage: true, SilenceErrors: true,
	}
	p := &process{metrics: prometheus.NewRegistry()}
	level := slog.LevelInfo
	root.PersistentFlags().StringVar(&p.health, "metrics-addr", "", "host:port of /metrics and /healthz; empty for none")
	root.PersistentFlags().TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	root.PersistentPreRun = func(*cobra.Command, []string) {
		p.log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	root.AddCommand(newController(p, o), newNode(p, o), newInitiator(p), newHolder(p))
	return root
}

// together runs each part until one ends or ctx does, and returns the first error.
func together(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part(ctx) }()
	}
	var first error
	for range parts {
		if err := <-ended; err != nil && first == nil {
			first = err
		}
		cancel()
	}
	return first
}
