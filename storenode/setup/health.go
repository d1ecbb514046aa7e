package setup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
)

// headerTimeout bounds how long a caller of the HTTP endpoint may take to say what it wants.
const headerTimeout = 5 * time.Second

// answer tells a caller the outcome of a check.
func answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}
}

// inSync reports Replicas here that are being brought in sync. A rollout ends the next storenode when this one is
// ready, so until then the others are needed.
func inSync(statuses []shard.Status) error {
	behind := 0
	for i := range statuses {
		if s := statuses[i].State; s == shard.StateRebuilding || s == shard.StateStale {
			behind++
		}
	}
	if behind > 0 {
		return fmt.Errorf("%d replicas here are not in sync yet", behind)
	}
	return nil
}

func serveHealth(ctx context.Context, address string, g prometheus.Gatherer, s *process.Server) error {
	if address == "" {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", answer(s.Check))
	mux.HandleFunc("GET /readyz", answer(func() error { return errors.Join(s.Check(), inSync(s.Host.Statuses())) }))
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health at %s: %w", address, err)
	}
	return nil
}
