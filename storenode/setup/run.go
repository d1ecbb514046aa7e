package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/shale-storage/shale/storenode/agent"
	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/setup/process"
)

// run serves until ctx ends.
func run(ctx context.Context, f *flags, version string, log *slog.Logger) error {
	pool, err := poolSize(f.memory)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.stateDir, 0o755); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	boot, err := process.Boot(f.bootID)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	address := net.JoinHostPort(f.address, strconv.Itoa(int(f.port)))
	incarnation := process.Incarnation()
	a, err := agent.New(agent.Options{
		Config: config, Node: f.node, Namespace: f.namespace, Address: address, Version: version,
		Incarnation: strconv.FormatUint(incarnation, 16), Log: log, Clock: clock.RealClock{},
	})
	if err != nil {
		return fmt.Errorf("make agent: %w", err)
	}
	s, err := process.Start(ctx, process.Config{
		Name: f.node, Address: address, Incarnation: incarnation, Authority: a, Pool: buffer.New(pool),
		Log: log, ScrubPass: f.scrub,
	})
	if err != nil {
		return err
	}
	limitHeap(s.Pool)
	devices := &devices{host: s.Host, boot: boot, log: log}
	metrics := prometheus.NewRegistry()
	registerMetrics(metrics, s, devices)
	log.Info("Storenode is up", "node", f.node, "address", address, "version", version)
	work, end := lastWork(ctx, s, f.handOver, log)
	defer end()
	err = together(work,
		func(ctx context.Context) error { return s.Serve(ctx) },
		func(ctx context.Context) error { return a.Run(ctx, s.Host, devices) },
		func(ctx context.Context) error { return serveHealth(ctx, f, metrics, s, a) },
	)
	log.Info("Storenode stops", "cause", context.Cause(work))
	s.Stop()
	return errors.Join(err, devices.close())
}

// lastWork is a context that ends some time after ctx: when everything is handed over, or after limit.
func lastWork(ctx context.Context, s *process.Server, limit time.Duration, log *slog.Logger) (
	work context.Context, end func(),
) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		log.Info("Storenode hands over", "limit", limit)
		within, done := context.WithTimeout(work, limit)
		defer done()
		held := s.HandOver(within)
		log.Info("Storenode has handed over", "left", held)
		cancel(context.Cause(ctx))
	})
	return work, func() {
		stop()
		cancel(nil)
	}
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
