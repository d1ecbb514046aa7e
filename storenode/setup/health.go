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
)

// headerTimeout bounds how long a caller of the HTTP endpoint may take to say what it wants.
const headerTimeout = 5 * time.Second

func serveHealth(ctx context.Context, address string, g prometheus.Gatherer, s *process.Server) error {
	if address == "" {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	answer := func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Check(); err != nil {
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
