package tcp_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/transport/tcp"
	"github.com/shale-storage/shale/storenode/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler is a Handler of functions.
type handler struct {
	frame  func(c transport.Conn, f *transport.Frame) error
	idle   func(c transport.Conn)
	closed chan error
}

func (h *handler) Frame(c transport.Conn, f *transport.Frame) error { return h.frame(c, f) }
func (h *handler) Idle(c transport.Conn) {
	if h.idle != nil {
		h.idle(c)
		return
	}
	c.Flush()
}
func (h *handler) Closed(_ transport.Conn, err error) { h.closed <- err }

// closes waits for the end of the connection, and does something meanwhile.
func (h *handler) closes(meanwhile func()) error {
	for {
		select {
		case cause := <-h.closed:
			return cause
		case <-time.After(time.Millisecond):
			meanwhile()
		}
	}
}

// echo answers each frame with itself.
func echo() *handler {
	return &handler{closed: make(chan error, 1), frame: func(c transport.Conn, f *transport.Frame) error {
		f.Flags |= wire.FlagReply
		return c.Send(f)
	}}
}

func options(pool *buffer.Pool) *tcp.Options {
	return &tcp.Options{
		Pool: pool, Metrics: &tcp.Metrics{}, MaxConnections: 8, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// serve runs a Listener whose connections get handlers from h.
func serve(tb testing.TB, o *tcp.Options, h func() transport.Handler) *tcp.Listener {
	tb.Helper()
	l, err := tcp.Listen(tb.Context(), "127.0.0.1:0", o)
	if err != nil {
		tb.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		if err := l.Serve(func(transport.Conn) (transport.Handler, error) { return h(), nil }); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		served.Wait()
	})
	return l
}

func dial(tb testing.TB, o *tcp.Options, address string, h *handler) transport.Conn {
	tb.Helper()
	c, err := tcp.Dialer{Options: o}.Dial(tb.Context(), address, h)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.Close(transport.ErrClosed)
		<-h.closed
	})
	return c
}

func TestFramesArriveWholeAndInOrder(t *testing.T) {
	pool := buffer.New(64 << 20)
	o := options(pool)
	server := echo()
	l := serve(t, o, func() transport.Handler { return server })
	sizes := []int{0, 4096, 1, 300_000, wire.MaxPayload, 128 << 10, 0, 4096}
	const rounds = 20
	done := make(chan struct{})
	next := uint64(0)
	h := &handler{closed: make(chan error, 1), frame: func(_ transport.Conn, f *transport.Frame) error {
		want := sizes[next%uint64(len(sizes))]
		if uint64(f.Request) != next || int(f.PayloadLength) != want || !f.IsReply() {
			t.Errorf("frame %d with %d bytes, want %d with %d", f.Request, f.PayloadLength, next, want)
		}
		if f.Payload != nil {
			if want >= 8 && binary.LittleEndian.Uint64(f.Payload.Bytes()[want-8:]) != next {
				t.Errorf("frame %d carries other bytes", next)
			}
			f.Payload.Release()
		}
		if next++; next == uint64(len(sizes)*rounds) {
			close(done)
		}
		return nil
	}}
	c, err := tcp.Dialer{Options: o}.Dial(t.Context(), l.Address(), h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(len(sizes) * rounds) {
		f := transport.Frame{Header: wire.Header{Opcode: wire.OpWrite, Request: ident.RequestID(i)}}
		if n := sizes[i%uint64(len(sizes))]; n > 0 {
			for f.Payload = pool.Get(n); f.Payload == nil; f.Payload = pool.Get(n) {
				c.Flush()
				time.Sleep(time.Millisecond)
			}
			if n >= 8 {
				binary.LittleEndian.PutUint64(f.Payload.Bytes()[n-8:], i)
			}
		}
		if err := c.Send(&f); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			c.Flush()
		}
	}
	c.Flush()
	<-done
	// A sender lets go of a payload after the peer has it, so look when both senders have ended.
	c.Close(transport.ErrClosed)
	<-h.closed
	<-server.closed
	if in := pool.Stats().InUse; in != 0 {
		t.Errorf("%d bytes of the pool are lost", in)
	}
}

// counter is a log of which only the lines are counted.
type counter struct{ lines atomic.Int64 }

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }
func (c *counter) Handle(context.Context, slog.Record) error {
	c.lines.Add(1)
	return nil
}
func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *counter) WithGroup(string) slog.Handler      { return c }

func TestGarbageClosesItsConnectionAndHarmsNoOther(t *testing.T) {
	o := options(buffer.New(8 << 20))
	told, begun := &counter{}, time.Now()
	o.Log = slog.New(told)
	l := serve(t, o, func() transport.Handler { return echo() })
	answered := make(chan struct{}, 1)
	good := dial(t, o, l.Address(), &handler{
		closed: make(chan error, 1),
		frame:  func(transport.Conn, *transport.Frame) error { answered <- struct{}{}; return nil },
	})
	var header, oversized, rotten [wire.HeaderSize]byte
	h := wire.Header{Opcode: wire.OpWrite, PayloadLength: 4096, PayloadCRC: 1}
	h.Encode(header[:])
	h.PayloadLength = wire.MaxPayload + 1
	h.Encode(oversized[:])
	h.Encode(rotten[:])
	rotten[30] ^= 4
	for name, bytes := range map[string][]byte{
		"text":          []byte("GET / HTTP/1.1\r\nHost: shale\r\n\r\n" + string(make([]byte, 200))),
		"oversized":     oversized[:],
		"rotten header": rotten[:],
		"wrong payload": append(header[:], make([]byte, 4096)...),
	} {
		c, err := net.Dial("tcp", l.Address())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(bytes); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%s was answered", name)
		}
		_ = c.Close()
	}
	short, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := short.Write(header[:50]); err != nil {
		t.Fatal(err)
	}
	_ = short.Close()
	for o.Metrics.BadFrames.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	for told.lines.Load() == 0 {
		if time.Since(begun) > time.Minute {
			t.Fatal("nothing is in the log")
		}
		time.Sleep(time.Millisecond)
	}
	if lines, most := told.lines.Load(), int64(time.Since(begun)/time.Second)+2; lines > most {
		t.Errorf("%d lines in the log, at most %d: one for each second that was begun", lines, most)
	}
	if err := good.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpHello}}); err != nil {
		t.Fatal(err)
	}
	good.Flush()
	<-answered
}

func TestConnectionsAreBounded(t *testing.T) {
	o := options(buffer.New(1 << 20))
	o.MaxConnections = 1
	l := serve(t, o, func() transport.Handler { return echo() })
	ignore := func(transport.Conn, *transport.Frame) error { return nil }
	first := dial(t, o, l.Address(), &handler{closed: make(chan error, 1), frame: ignore})
	if err := first.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpHello}}); err != nil {
		t.Fatal(err)
	}
	first.Flush()
	for o.Metrics.FramesIn.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	second, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("a connection beyond the limit was kept")
	}
}

// deaf listens, and takes connections but nothing that comes by them.
func deaf(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l
}

func TestAPeerThatTakesNothingOverflowsItsQueueAlone(t *testing.T) {
	o := options(buffer.New(8 << 20))
	l := deaf(t)
	h := &handler{closed: make(chan error, 1), frame: func(transport.Conn, *transport.Frame) error { return nil }}
	c, err := tcp.Dialer{Options: o}.Dial(context.Background(), l.Addr().String(), h)
	if err != nil {
		t.Fatal(err)
	}
	other := echoed(t, o)
	payload := o.Pool.Get(1 << 20)
	for {
		payload.Retain()
		if err = c.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpWrite}, Payload: payload}); err != nil {
			break
		}
		c.Flush()
	}
	payload.Release()
	if !errors.Is(err, transport.ErrOverflow) {
		t.Errorf("Send says %v", err)
	}
	other() // while the first ends
	if cause := <-h.closed; !errors.Is(cause, transport.ErrOverflow) {
		t.Errorf("closed with %v", cause)
	}
	other()
}

// echoed is a connection to a peer that answers: each call waits for one more answer, with its payload.
func echoed(t *testing.T, o *tcp.Options) func() {
	t.Helper()
	l := serve(t, o, func() transport.Handler { return echo() })
	answers := make(chan *buffer.Buffer, 1)
	h := &handler{closed: make(chan error, 2), frame: func(_ transport.Conn, f *transport.Frame) error {
		answers <- f.Payload
		return nil
	}}
	c := dial(t, o, l.Address(), h)
	return func() {
		t.Helper()
		if err := c.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpWrite}, Payload: o.Pool.Get(4096)}); err != nil {
			t.Fatal(err)
		}
		c.Flush()
		select {
		case b := <-answers:
			b.Release()
		case err := <-h.closed:
			h.closed <- err
			t.Fatalf("another connection ended: %v", err)
		}
	}
}

// TestAllOfThePoolMayWaitOnOneConnection, with headers, and no more.
func TestAllOfThePoolMayWaitOnOneConnection(t *testing.T) {
	const limit = 128 << 20
	pool := buffer.New(limit)
	o := options(pool)
	l := deaf(t)
	h := &handler{closed: make(chan error, 1), frame: func(transport.Conn, *transport.Frame) error { return nil }}
	c := dial(t, o, l.Addr().String(), h)
	payload := pool.Get(wire.MaxPayload)
	defer payload.Release()
	checksum.Blocks(payload.Bytes(), payload.SumsRoom())
	payload.SetSums()
	send := func() error {
		payload.Retain()
		return c.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpWrite}, Payload: payload})
	}
	for n := range limit / wire.MaxPayload {
		if err := send(); err != nil {
			t.Fatalf("with %d bytes of %d waiting: %v", n*wire.MaxPayload, limit, err)
		}
	}
	for range limit / wire.MaxPayload {
		if err := send(); err != nil {
			if !errors.Is(err, transport.ErrOverflow) {
				t.Errorf("Send says %v", err)
			}
			return
		}
	}
	t.Error("twice the pool waits")
}

// counting takes frames and counts them.
func counting(frames *atomic.Int64) *handler {
	return &handler{closed: make(chan error, 1), frame: func(_ transport.Conn, f *transport.Frame) error {
		if f.Payload != nil {
			f.Payload.Release()
		}
		frames.Add(1)
		return nil
	}}
}

// raw is a connection to l by which bytes of our choice are sent.
func raw(tb testing.TB, l *tcp.Listener) net.Conn {
	tb.Helper()
	c, err := net.Dial("tcp", l.Address())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// encoded is a frame as it is on the wire.
func encoded(payload []byte) []byte {
	h := wire.Header{Opcode: wire.OpWrite, PayloadLength: uint32(len(payload))}
	if len(payload) > 0 {
		h.PayloadCRC = wire.CRC(payload)
	}
	b := make([]byte, wire.HeaderSize, wire.HeaderSize+len(payload))
	h.Encode(b)
	return append(b, payload...)
}

func write(tb testing.TB, c net.Conn, b []byte) {
	tb.Helper()
	if _, err := c.Write(b); err != nil {
		tb.Fatal(err)
	}
}

func TestAPeerThatStopsWithinAFrameIsLeftAndGivesItsMemoryBack(t *testing.T) {
	o := options(buffer.New(8 << 20))
	var frames atomic.Int64
	h := counting(&frames)
	inner, conns := h.frame, make(chan transport.Conn, 8)
	h.frame = func(c transport.Conn, f *transport.Frame) error {
		conns <- c
		return inner(c, f)
	}
	l := serve(t, o, func() transport.Handler { return h })
	c := raw(t, l)
	write(t, c, encoded(nil))
	server := <-conns
	arrives := func(n int) {
		for o.Metrics.BytesIn.Load() < int64(n) || !tcp.Watched(server) {
			time.Sleep(time.Millisecond)
		}
	}
	whole, sent := encoded(make([]byte, 100_001)), wire.HeaderSize
	for part := range slices.Chunk(whole[:90_000], 10_000) { // slow, but not still
		write(t, c, part)
		sent += len(part)
		arrives(sent)
		if sent > 20_000 { // the first part is where it begins
			tcp.Look(server)
		}
	}
	write(t, c, whole[90_000:])
	<-conns
	write(t, c, whole[:60_000])
	arrives(sent + len(whole) - 90_000 + 60_000)
	if cause := h.closes(func() { tcp.Look(server) }); cause == nil || frames.Load() != 2 {
		t.Errorf("%d frames, closed with %v", frames.Load(), cause)
	}
	if in, _ := o.Pool.Use(); in != 0 {
		t.Errorf("%d bytes of the pool are held", in)
	}
}

func TestAFirstFrameOfAnybodyTakesLittleMemory(t *testing.T) {
	o := options(buffer.New(8 << 20))
	l := serve(t, o, func() transport.Handler { return echo() })
	c := raw(t, l)
	write(t, c, encoded(make([]byte, 1<<20))[:wire.HeaderSize])
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("a megabyte was taken from a stranger")
	}
	for o.Metrics.BadFrames.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestAReaderWithoutMemoryGoesOnWhenThereIsSome(t *testing.T) {
	pool := buffer.New(1 << 20)
	o := options(pool)
	conns, payloads := make(chan transport.Conn, 8), make(chan *buffer.Buffer, 8)
	h := &handler{closed: make(chan error, 1), frame: func(c transport.Conn, f *transport.Frame) error {
		conns <- c
		payloads <- f.Payload
		return nil
	}}
	l := serve(t, o, func() transport.Handler { return h })
	c := raw(t, l)
	write(t, c, encoded(nil))
	server := <-conns
	<-payloads
	whole := encoded(make([]byte, 100_001))
	write(t, c, whole[:50_000])
	for !tcp.Watched(server) { // it owes the rest
		time.Sleep(time.Millisecond)
	}
	var all []*buffer.Buffer
	for n := 1 << 20; n >= 4096; n /= 2 {
		for b := pool.Get(n); b != nil; b = pool.Get(n) {
			all = append(all, b)
		}
	}
	write(t, c, whole[50_000:])
	write(t, c, whole)
	all = append(all, <-payloads)
	for range 5 { // it is not the peer who makes it wait, however long that is
		time.Sleep(time.Millisecond)
		tcp.Look(server)
	}
	write(t, c, whole)
	if len(payloads) > 0 {
		t.Errorf("%d frames without memory", len(payloads))
	}
	for _, b := range all {
		b.Release()
	}
	for range 2 {
		(<-payloads).Release()
	}
	_ = c.Close()
	<-h.closed
	if in, _ := pool.Use(); in != 0 {
		t.Errorf("%d bytes of the pool are held", in)
	}
}

func TestASlowPeerGetsAllAndOneThatStopsIsLeft(t *testing.T) {
	const total = 12 << 20
	o := options(buffer.New(16 << 20))
	l := deaf(t)
	h := &handler{closed: make(chan error, 1), frame: func(transport.Conn, *transport.Frame) error { return nil }}
	c, err := tcp.Dialer{Options: o}.Dial(t.Context(), l.Addr().String(), h)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	send := func() {
		t.Helper()
		for range total >> 20 {
			f := transport.Frame{Header: wire.Header{Opcode: wire.OpWrite}, Payload: o.Pool.Get(1 << 20)}
			if err := c.Send(&f); err != nil {
				t.Fatal(err)
			}
		}
		c.Flush()
	}
	send()
	looked := o.Metrics.BytesOut.Load()
	for left := total + total>>20*wire.HeaderSize; left > 0; {
		part := make([]byte, min(left, 2<<20))
		if _, err := io.ReadFull(peer, part); err != nil {
			t.Fatalf("with %d bytes to come: %v", left, err)
		}
		left -= len(part)
		if o.Metrics.BytesOut.Load() > looked { // slow, but not still
			tcp.Look(c)
			looked = o.Metrics.BytesOut.Load()
		}
	}
	send()
	if cause := h.closes(func() { tcp.Look(c) }); cause == nil {
		t.Error("closed without a reason")
	}
	if in, _ := o.Pool.Use(); in != 0 {
		t.Errorf("%d bytes of the pool are held", in)
	}
}

func TestAFrameAndItsAnswerAllocateNothing(t *testing.T) {
	o := options(buffer.New(8 << 20))
	l := serve(t, o, func() transport.Handler { return echo() })
	answered := make(chan struct{}, 1)
	c := dial(t, o, l.Address(), &handler{
		closed: make(chan error, 1),
		frame: func(_ transport.Conn, f *transport.Frame) error {
			f.Payload.Release()
			answered <- struct{}{}
			return nil
		},
	})
	var f transport.Frame
	for _, size := range []int{4096, 512 << 10} {
		round := func() {
			f = transport.Frame{Header: wire.Header{Opcode: wire.OpWrite}, Payload: o.Pool.Get(size)}
			if err := c.Send(&f); err != nil {
				t.Error(err)
			}
			c.Flush()
			<-answered
		}
		for range 100 {
			round()
		}
		// Counts what the whole process allocates, so what both loops do too.
		if n := testing.AllocsPerRun(300, round); n != 0 {
			t.Errorf("%d bytes there and back allocate %v times", size, n)
		}
	}
}

// benchmark echoes 4 KiB writes with n in flight.
func benchmark(b *testing.B, n int) {
	b.Helper()
	pool := buffer.New(64 << 20)
	o := options(pool)
	l := serve(b, o, func() transport.Handler {
		return &handler{closed: make(chan error, 1), frame: func(c transport.Conn, f *transport.Frame) error {
			f.Payload.Release()
			f.Payload = nil
			return c.Send(f)
		}}
	})
	left, done := b.N, make(chan struct{})
	send := func(c transport.Conn) error {
		return c.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpWrite}, Payload: pool.Get(4096)})
	}
	h := &handler{closed: make(chan error, 1), frame: func(c transport.Conn, _ *transport.Frame) error {
		if left--; left == 0 {
			close(done)
		}
		return send(c)
	}}
	c := dial(b, o, l.Address(), h)
	b.ReportAllocs()
	b.ResetTimer()
	for range n {
		if err := send(c); err != nil {
			b.Fatal(err)
		}
	}
	c.Flush()
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "iops")
}

func BenchmarkEcho1(b *testing.B)  { benchmark(b, 1) }
func BenchmarkEcho32(b *testing.B) { benchmark(b, 32) }
