package tcp_test

import (
	"sync"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/transport/tcp"
	"github.com/shale-storage/shale/storenode/wire"
)

// serveOne is serve for the first connection, which it hands out.
func serveOne(t *testing.T, o *tcp.Options, h transport.Handler) (*tcp.Listener, <-chan transport.Conn) {
	t.Helper()
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan transport.Conn, 1)
	var served sync.WaitGroup
	served.Go(func() {
		if err := l.Serve(func(c transport.Conn) (transport.Handler, error) { conns <- c; return h, nil }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return l, conns
}

// exhaust takes all that a Pool has.
func exhaust(pool *buffer.Pool) (all []*buffer.Buffer) {
	for n := buffer.MaxSize; n >= buffer.Alignment; n /= 2 {
		for b := pool.Get(n); b != nil; b = pool.Get(n) {
			all = append(all, b)
		}
	}
	return all
}

// keeper is a handler that hands payloads on.
func keeper() (*handler, <-chan *buffer.Buffer) {
	payloads := make(chan *buffer.Buffer, 1)
	return &handler{closed: make(chan error, 1), frame: func(_ transport.Conn, f *transport.Frame) error {
		payloads <- f.Payload
		return nil
	}}, payloads
}

func TestAFirstFrameWaitsForMemoryHoweverLong(t *testing.T) {
	pool := buffer.New(1 << 20)
	o := options(pool)
	h, payloads := keeper()
	l, conns := serveOne(t, o, h)
	all := exhaust(pool)
	c := raw(t, l)
	write(t, c, encoded(make([]byte, 100))) // wholly read, and nothing of it kept by the socket
	server := <-conns
	for !tcp.Starved(server) {
		time.Sleep(time.Millisecond)
	}
	arrives := func() {
		t.Helper()
		select {
		case b := <-payloads:
			b.Release()
		case err := <-h.closed:
			h.closed <- err
			t.Fatalf("closed with %v", err)
		}
	}
	for range 3 {
		tcp.NoHello(server)
	}
	for _, b := range all {
		b.Release()
	}
	arrives()
	for range 3 { // one that came late is no longer waited for
		tcp.NoHello(server)
	}
	write(t, c, encoded(make([]byte, 100)))
	arrives()
	_ = c.Close()
	<-h.closed
}

func TestWhoSaysNothingIsLeft(t *testing.T) {
	o := options(buffer.New(1 << 20))
	h := echo()
	l, conns := serveOne(t, o, h)
	c := raw(t, l)
	write(t, c, encoded(make([]byte, 100))[:wire.HeaderSize-1])
	server := <-conns
	if cause := h.closes(func() { tcp.NoHello(server) }); cause == nil {
		t.Error("closed without a reason")
	}
}

// TestARestOfAFrameThatIsHereIsNotMissed while the loop has no memory for it.
func TestARestOfAFrameThatIsHereIsNotMissed(t *testing.T) {
	pool := buffer.New(1 << 20)
	o := options(pool)
	h, payloads := keeper()
	l, conns := serveOne(t, o, h)
	c := raw(t, l)
	whole := encoded(make([]byte, 100))
	write(t, c, whole[:50])
	server := <-conns
	for !tcp.Watched(server) { // it owes the rest
		time.Sleep(time.Millisecond)
	}
	all := exhaust(pool)
	write(t, c, whole[50:])
	for !tcp.Starved(server) {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		tcp.Look(server)
	}
	for _, b := range all {
		b.Release()
	}
	select {
	case b := <-payloads:
		b.Release()
	case err := <-h.closed:
		t.Fatalf("closed with %v", err)
	}
	_ = c.Close()
	<-h.closed
}

// TestAPeerThatTakesMoreIsNotLeft because the loop has not sent, as when the process was stopped.
func TestAPeerThatTakesMoreIsNotLeft(t *testing.T) {
	o := options(buffer.New(1 << 20))
	l := serve(t, o, func() transport.Handler { return echo() })
	answers := make(chan struct{}, 1)
	h := &handler{closed: make(chan error, 1), frame: func(transport.Conn, *transport.Frame) error {
		answers <- struct{}{}
		return nil
	}}
	c := dial(t, o, l.Address(), h)
	tcp.Waits(c)
	for range 3 {
		tcp.Look(c)
	}
	if err := c.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpHeartbeat}}); err != nil {
		t.Fatal(err)
	}
	c.Flush()
	<-answers
}
