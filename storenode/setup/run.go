package setup

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/shale-storage/shale/storenode/agent"
	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/transport/tcp"
)

// maxConnections bounds the connections that others make: two a client's path and one a storenode would do.
const maxConnections = 1024

// Clock reads the monotonic clock since a moment before now.
func Clock() func() replication.Instant {
	start := time.Now().Add(-time.Second) // so that no reading is 0
	return func() replication.Instant { return replication.Instant(time.Since(start)) }
}

// Incarnation draws the name of a process.
func Incarnation() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return max(binary.LittleEndian.Uint64(b[:]), 1)
}

// run serves until ctx ends.
func run(ctx context.Context, f *flags, version string, log *slog.Logger) error {
	if err := os.MkdirAll(f.stateDir, 0o755); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	address := net.JoinHostPort(f.address, strconv.Itoa(int(f.port)))
	incarnation := Incarnation()
	a, err := agent.New(agent.Options{
		Config: config, Node: f.node, Namespace: f.namespace, Address: address, Version: version,
		Incarnation: strconv.FormatUint(incarnation, 16), Log: log, Clock: clock.RealClock{},
	})
	if err != nil {
		return fmt.Errorf("make agent: %w", err)
	}
	s, err := Start(ctx, Config{
		Name: f.node, Address: address, Incarnation: incarnation, Authority: a, Pool: buffer.New(poolSize(f.memory)),
		Log: log,
	})
	if err != nil {
		return err
	}
	limitHeap(s.Pool)
	devices := &devices{host: s.Host, boot: boot, log: log}
	metrics := prometheus.NewRegistry()
	registerMetrics(metrics, s, devices)
	health := &health{}
	log.Info("Storenode is up", "node", f.node, "address", address, "version", version)
	err = together(ctx,
		func(ctx context.Context) error { return s.serve(ctx, health) },
		func(ctx context.Context) error { return a.Run(ctx, s.Host, devices) },
		func(ctx context.Context) error { return serveHealth(ctx, f.metrics, metrics, health) },
	)
	log.Info("Storenode stops", "cause", context.Cause(ctx))
	s.Stop()
	return errors.Join(err, devices.close())
}

// Config of a Server. All fields are required.
type Config struct {
	// Name of the node; Address is host:port to listen at and to be reached at. With port 0 a free one is taken.
	Name, Address string
	Incarnation   uint64
	Authority     shard.Authority
	Pool          *buffer.Pool
	Log           *slog.Logger
}

// Server is a Host with its connections by TCP.
type Server struct {
	Host     *shard.Host
	Pool     *buffer.Pool
	Metrics  *tcp.Metrics
	listener *tcp.Listener
	dialing  sync.WaitGroup
	stopDial context.CancelFunc
}

// Start listens, so that nobody else may take the address, and makes a Host. Nothing is accepted before Serve.
func Start(ctx context.Context, c Config) (*Server, error) {
	s := &Server{Pool: c.Pool, Metrics: &tcp.Metrics{}}
	options := &tcp.Options{Pool: c.Pool, Metrics: s.Metrics, Log: c.Log, MaxConnections: maxConnections}
	var err error
	if s.listener, err = tcp.Listen(ctx, c.Address, options); err != nil {
		return nil, fmt.Errorf("start storenode: %w", err)
	}
	dial, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopDial = stop
	s.Host = shard.New(shard.Options{
		Name: c.Name, Address: s.listener.Address(), Incarnation: c.Incarnation, Authority: c.Authority,
		Dialer: shard.Dialing{Context: dial, Dialer: tcp.Dialer{Options: options}, Go: s.dialing.Go},
		Pool:   c.Pool, Timing: replication.DefaultTiming(), Clock: Clock(), Log: c.Log,
	})
	return s, nil
}

// Address is where the Server listens.
func (s *Server) Address() string { return s.listener.Address() }

// Serve accepts connections and lets time pass until ctx ends.
func (s *Server) Serve(ctx context.Context) error { return s.serve(ctx, &health{}) }

func (s *Server) serve(ctx context.Context, h *health) error {
	accepting := make(chan error, 1)
	go func() {
		accepting <- s.listener.Serve(func(c transport.Conn) (transport.Handler, error) { return s.Host.Accept(c) })
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-accepting:
			return err
		case <-timer.C:
			timer.Reset(s.Host.Tick())
			h.ticked()
		}
	}
}

// Stop closes the listener and all connections, and waits for what was being dialed. Devices are closed afterwards.
func (s *Server) Stop() {
	s.stopDial()
	s.Host.Close()
	_ = s.listener.Close() // it is given up
	s.dialing.Wait()
}

// bootID names this run of the machine.
func bootID() (uint64, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return 0, fmt.Errorf("read boot id: %w", err)
	}
	return hashBoot(text), nil
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
