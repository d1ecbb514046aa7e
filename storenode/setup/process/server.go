package process

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/transport/tcp"
)

const (
	// maxConnections bounds the connections that others make: one of each attached Volume that has a Primary here.
	maxConnections = 4096
	// maxClients bounds those of clients among them.
	maxClients = maxConnections * 3 / 4
	// stuckAfter is how long time may stand still before the process is taken for stuck.
	stuckAfter = 10 * time.Second
	// handOverLook is how often is looked whether the hand-over is done.
	handOverLook = 20 * time.Millisecond
	// handOverLinger is how long connections are kept afterwards, for what is queued and for clients to be told.
	handOverLinger = 300 * time.Millisecond
)

// Config of a Server. All fields but ScrubPass are required.
type Config struct {
	// Name of the node; Address is host:port to listen at and to be reached at. With port 0 a free one is taken.
	Name, Address string
	Incarnation   uint64
	Authority     shard.Authority
	Pool          *buffer.Pool
	Log           *slog.Logger
	// ScrubPass is as in shard.Options; 0 for no scrub.
	ScrubPass time.Duration
}

// Server is a Host with its connections by TCP.
type Server struct {
	Host     *shard.Host
	Pool     *buffer.Pool
	Metrics  *tcp.Metrics
	listener *tcp.Listener
	dialing  sync.WaitGroup
	stopDial context.CancelFunc
	// last is when time passed last.
	last atomic.Int64
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
	clock := Clock()
	s.Host = shard.New(shard.Options{
		Name: c.Name, Address: s.listener.Address(), Incarnation: c.Incarnation, Authority: c.Authority,
		Dialer: shard.Dialing{Context: dial, Dialer: tcp.Dialer{Options: options}, Go: s.dialing.Go},
		Pool:   c.Pool, Timing: replication.DefaultTiming(), Clock: clock, Log: c.Log, MaxClients: maxClients,
		ScrubPass: c.ScrubPass, Calendar: time.Duration(time.Now().UnixNano()) - time.Duration(clock()),
	})
	return s, nil
}

// Address is where the Server listens.
func (s *Server) Address() string { return s.listener.Address() }

// Serve accepts connections and lets time pass until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
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
			s.last.Store(time.Now().UnixNano())
		}
	}
}

// HandOver has everything that is served here served elsewhere, as far as that can be, until ctx ends. Serve must run
// meanwhile. It returns how many Replicas could not be spared.
func (s *Server) HandOver(ctx context.Context) (held int) {
	s.Host.Leave()
	look := time.NewTicker(handOverLook)
	defer look.Stop()
	for held = s.Host.Held(); held > 0; held = s.Host.Held() {
		select {
		case <-ctx.Done():
			return held
		case <-look.C:
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(handOverLinger):
	}
	return 0
}

// Stop closes the listener and all connections, and waits for what was being dialed. Devices are closed afterwards.
func (s *Server) Stop() {
	s.stopDial()
	s.Host.Close()
	_ = s.listener.Close() // it is given up
	s.dialing.Wait()
}

// Check tells whether the Server does its work: every Monitor is entered at each tick, so one that hangs shows here.
func (s *Server) Check() error {
	last := s.last.Load()
	if last == 0 {
		return errors.New("not serving yet")
	}
	if still := time.Since(time.Unix(0, last)); still > stuckAfter {
		return fmt.Errorf("time has stood still for %s: a device's monitor does not come free", still.Round(time.Second))
	}
	return nil
}

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

// BootIDFile is where the kernel tells one run of the machine from others.
const BootIDFile = "/proc/sys/kernel/random/boot_id"

// Boot names this run of the machine by the content of a file, as a rule BootIDFile: what was written and not flushed
// may be lost when it has changed.
func Boot(file string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read boot id: %w", err)
	}
	if len(text) == 0 {
		return 0, fmt.Errorf("read boot id: file %s is empty", file)
	}
	h := fnv.New64a()
	_, _ = h.Write(text) // never fails
	return h.Sum64(), nil
}
