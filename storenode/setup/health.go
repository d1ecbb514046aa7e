package setup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// stuckAfter is how long time may stand still before the process is taken for stuck.
	stuckAfter = 10 * time.Second
	// headerTimeout bounds how long a caller of the HTTP endpoint may take to say what it wants.
	headerTimeout = 5 * time.Second
)

// health knows whether the process still does its work: every Monitor is entered at each tick, so one that hangs
// shows here.
type health struct{ last atomic.Int64 }

func (h *health) ticked() { h.last.Store(time.Now().UnixNano()) }

func (h *health) check() error {
	last := h.last.Load()
	if last == 0 {
		return errors.New("not serving yet")
	}
	if still := time.Since(time.Unix(0, last)); still > stuckAfter {
		return fmt.Errorf("time has stood still for %s: a device's monitor does not come free", still.Round(time.Second))
	}
	return nil
}

func serveHealth(ctx context.Context, address string, g prometheus.Gatherer, h *health) error {
	if address == "" {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	answer := func(w http.ResponseWriter, _ *http.Request) {
		if err := h.check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}
	mux.HandleFunc("GET /healthz", answer)
	mux.HandleFunc("GET /readyz", answer)
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health at %s: %w", address, err)
	}
	return nil
}
