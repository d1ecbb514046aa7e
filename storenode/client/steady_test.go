package client

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// instant is a storenode without network that answers everything within Flush and allocates nothing for I/O. It
// implements transport.Dialer.
type instant struct {
	pool *buffer.Pool
	size int64
}

type instantConn struct {
	storenode *instant
	handler   transport.Handler

	mu sync.Mutex
	// queue is answered from its head on, by one Flush at a time.
	queue    []transport.Frame
	head     int
	flushing bool
	answer   transport.Frame
}

func (i *instant) Dial(_ context.Context, _ string, h transport.Handler) (transport.Conn, error) {
	return &instantConn{storenode: i, handler: h, queue: make([]transport.Frame, 0, 256)}, nil
}

func (c *instantConn) Send(f *transport.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, *f)
	return nil
}

// take is the next frame to be answered.
func (c *instantConn) take(f *transport.Frame, first bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first && c.flushing {
		return false
	}
	if c.flushing = c.head < len(c.queue); !c.flushing {
		c.queue, c.head = c.queue[:0], 0
		return false
	}
	*f = c.queue[c.head]
	c.head++
	return true
}

func (c *instantConn) Flush() {
	var f transport.Frame
	answered := false
	for c.take(&f, !answered) {
		answered = true
		c.answer = transport.Frame{Header: f.Header}
		c.answer.Flags = wire.FlagReply
		if f.Payload != nil {
			f.Payload.Release()
		}
		switch f.Opcode {
		case wire.OpHello:
			c.respond((&wire.Hello{Role: wire.RoleStoreNode, Name: "n"}).Append(nil))
		case wire.OpOpen:
			r := membership.Record{Epoch: 1, Primary: 1, Replicas: []membership.Replica{{ID: 1, Address: "here:1"}}}
			c.respond((&wire.MapPage{
				Volume: f.Shard.Volume, Size: c.storenode.size, ShardSize: c.storenode.size, Generation: 1, Shards: 1,
				Records: []membership.Record{r},
			}).Append(nil))
		case wire.OpRead:
			c.answer.Payload = c.storenode.pool.Get(int(f.Length))
		default:
		}
		if err := c.handler.Frame(c, &c.answer); err != nil {
			panic(err)
		}
	}
	if answered {
		c.handler.Idle(c)
	}
}

func (c *instantConn) respond(payload []byte) {
	c.answer.Payload = c.storenode.pool.Get(len(payload))
	copy(c.answer.Payload.Bytes(), payload)
}

func (c *instantConn) Close(err error) { c.handler.Closed(c, err) }
func (c *instantConn) Remote() string  { return "here:1" }

func openInstant(tb testing.TB) *Volume {
	tb.Helper()
	pool := buffer.New(16 << 20)
	v, err := Open(tb.Context(), Options{
		Volume: ident.UUID{1}, Generation: 1, Addresses: []string{"here:1"}, Node: "n", Pool: pool, AfterFunc: fastClock,
		Dialer: &instant{pool: pool, size: 1 << 30}, Metrics: &Metrics{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = v.Close() })
	return v
}

func TestSteadyIOAllocatesNothing(t *testing.T) {
	v := openInstant(t)
	c := &call{done: make(chan struct{}, 1)}
	c.Done = c
	c.Buffer = v.Buffer(4096)
	defer func() { c.Buffer.Release() }()
	round := func() {
		for _, op := range []Op{OpWrite, OpRead, OpDiscard, OpFlush} {
			c.Op, c.Offset, c.Length = op, 4096, 4096
			v.Submit(&c.Request)
			v.Kick()
			<-c.done
		}
	}
	if n := testing.AllocsPerRun(500, round); n != 0 {
		t.Errorf("%v allocations for four requests", n)
	}
}

// BenchmarkWrite is what the client alone costs, at depth 32.
func BenchmarkWrite(b *testing.B) {
	v := openInstant(b)
	var calls [32]*call
	for i := range calls {
		c := &call{done: make(chan struct{}, 1)}
		c.Done, c.Op, c.Length, c.Buffer = c, OpWrite, 4096, v.Buffer(4096)
		c.Offset = int64(i) * 4096
		calls[i] = c
		defer c.Buffer.Release()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for _, c := range calls {
			v.Submit(&c.Request)
		}
		v.Kick()
		for _, c := range calls {
			<-c.done
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(calls)), "ns/write")
}
