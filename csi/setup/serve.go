package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// maxCalls bounds the calls that one connection may have in progress; more wait in the transport.
	maxCalls = 64
	// maxMessage bounds a request, in bytes.
	maxMessage = 1 << 20
	// stopTimeout bounds how long an orderly end waits before it cancels the calls in progress.
	stopTimeout = 10 * time.Second
	// headerTimeout bounds how long a caller of the HTTP endpoint may take to say what it wants.
	headerTimeout = 5 * time.Second
	unixScheme    = "unix://"
)

// listen makes the unix socket of an endpoint such as unix:///csi/csi.sock, in place of what an earlier process left.
func listen(ctx context.Context, endpoint string) (net.Listener, error) {
	path, ok := strings.CutPrefix(endpoint, unixScheme)
	if !ok || !filepath.IsAbs(path) {
		return nil, fmt.Errorf("listen on %q: want %s and an absolute path", endpoint, unixScheme)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make directory of socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", endpoint, err)
	}
	return listener, nil
}

// newPlugin makes a gRPC server that logs and counts its calls and survives a panic in one of them.
func newPlugin(log *slog.Logger, seconds *prometheus.HistogramVec) *grpc.Server {
	return grpc.NewServer(
		grpc.MaxConcurrentStreams(maxCalls), grpc.MaxRecvMsgSize(maxMessage),
		grpc.ChainUnaryInterceptor(observe(log, seconds), recoverCall(log)),
	)
}

// newCallSeconds is the histogram of calls by method and code.
func newCallSeconds(r prometheus.Registerer) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "shale_csi_call_seconds", Help: "Time that CSI calls took, by method and gRPC code.",
		Buckets: prometheus.ExponentialBuckets(0.01, 3, 9),
	}, []string{"method", "code"})
	r.MustRegister(h)
	return h
}

// observe logs a call that failed, without its secrets, and measures all.
func observe(log *slog.Logger, seconds *prometheus.HistogramVec) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		began := time.Now()
		out, err := next(ctx, in)
		took, code := time.Since(began), status.Code(err)
		method := filepath.Base(info.FullMethod)
		seconds.WithLabelValues(method, code.String()).Observe(took.Seconds())
		request := slog.String("request", "")
		if err != nil || log.Enabled(ctx, slog.LevelDebug) {
			request.Value = slog.StringValue(protosanitizer.StripSecrets(in).String())
		}
		if err != nil {
			log.Warn("Call failed", "method", method, "code", code, "took", took, "cause", err, request)
		} else {
			log.Debug("Call", "method", method, "took", took, request)
		}
		return out, err
	}
}

// recoverCall turns a panic into an answer: the other volumes' calls go on.
func recoverCall(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
		defer func() {
			if cause := recover(); cause != nil {
				log.Error("Call panicked", "method", info.FullMethod, "cause", cause, "stack", string(debug.Stack()))
				out, err = nil, status.Errorf(codes.Internal, "%s: internal error", info.FullMethod)
			}
		}()
		return next(ctx, in)
	}
}

// serve runs the plugin until ctx ends. After stopTimeout the calls in progress are cancelled; serve still waits for
// those that cannot be, such as one within mkfs, however long: what ends with this process would end in the middle.
func serve(ctx context.Context, plugin *grpc.Server, listener net.Listener) error {
	return servePatiently(ctx, plugin, listener, stopTimeout)
}

func servePatiently(ctx context.Context, plugin *grpc.Server, listener net.Listener, patience time.Duration) error {
	served := make(chan error, 1)
	go func() { served <- plugin.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	hard := time.AfterFunc(patience, plugin.Stop)
	defer hard.Stop()
	plugin.GracefulStop()
	return <-served
}

// serveHealth answers /healthz and /metrics at address until ctx ends. An empty address serves nothing.
func serveHealth(ctx context.Context, address string, g prometheus.Gatherer, ready func(context.Context) error) error {
	if address == "" {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	httpd := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { _ = httpd.Close() })
	defer stop()
	if err := httpd.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health on %s: %w", address, err)
	}
	return nil
}
