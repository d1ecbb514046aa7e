package setup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/shale-storage/shale/storenode/agent"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
)

// headerTimeout bounds how long a caller of the HTTP endpoint may take to say what it wants.
const headerTimeout = 5 * time.Second

// answer tells a caller the outcome of a check.
func answer(check func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := check(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}
}

// onThisMachine reports an address at which nobody can reach this machine any more. The process would go on with it,
// its Lease fresh, and be waited for; one that is started anew is given the node's address of then.
func onThisMachine(address string) error {
	want := net.ParseIP(address)
	all, err := net.InterfaceAddrs()
	if want == nil || want.IsUnspecified() || err != nil {
		return nil //nolint:nilerr // nothing is known against it
	}
	for _, a := range all {
		if have, ok := a.(*net.IPNet); ok && (have.IP.Equal(want) || want.IsLoopback()) {
			return nil
		}
	}
	return fmt.Errorf("address %s is not on this machine any more: has the node another one now?", address)
}

// ready says whether everything is in service that this node has, and in sync. A rollout ends the next storenode when
// this one is ready, so until then the others are needed. Replicas are asked for after their Devices: those of one that
// comes into service meanwhile are seen.
func ready(ctx context.Context, opened func(context.Context) error, statuses func() []shard.Status) error {
	if err := opened(ctx); err != nil {
		return err
	}
	return inSync(statuses())
}

// inSync reports Replicas here that are being brought in sync. Who is in no Record will never be, and nobody waits for
// it.
func inSync(statuses []shard.Status) error {
	behind := 0
	for i := range statuses {
		s := &statuses[i]
		if s.Listed && (s.State == shard.StateRebuilding || s.State == shard.StateStale) {
			behind++
		}
	}
	if behind > 0 {
		return fmt.Errorf("%d replicas here are not in sync yet", behind)
	}
	return nil
}

func serveHealth(ctx context.Context, f *flags, g prometheus.Gatherer, s *process.Server, a *agent.Agent) error {
	if f.metrics == "" {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", answer(func(context.Context) error {
		return errors.Join(s.Check(), onThisMachine(f.address))
	}))
	mux.HandleFunc("GET /readyz", answer(func(ctx context.Context) error {
		return errors.Join(s.Check(), ready(ctx, a.Ready, s.Host.Statuses))
	}))
	server := &http.Server{Addr: f.metrics, Handler: mux, ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health at %s: %w", f.metrics, err)
	}
	return nil
}
