package client

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/transport/tcp"
	"github.com/shale-storage/shale/storenode/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errCut = errors.New("cut by the test")

// cluster is a dumb model of storenodes behind real TCP: all share one content, which only the Primary of a Shard's
// Record changes. It remembers what it applied, and fails the test when a client breaks the protocol.
type cluster struct {
	t         testing.TB
	id        ident.UUID
	shardSize int64

	// mu guards the rest, and nodes.
	mu         sync.Mutex
	content    []byte
	records    []membership.Record
	generation ident.Generation
	nodes      []*node
	// applied holds what is remembered of each session and Shard.
	applied map[ident.SessionID][]memory
	// flushed is the content of the last flush of each Shard.
	flushed []byte
	seen    map[wire.Opcode]int
	chance  *rand.Rand
	faults  faults
	// yielded counts the Primaries that were replaced because a client did not reach them.
	yielded int
}

// faults are chances from 0 to 1 for each request.
type faults struct{ cutBefore, cutAfter, twice, busy, redirect, swallow float64 }

// memory is what a Shard knows of a session.
type memory struct {
	floor, highest ident.RequestID
	done           map[ident.RequestID]wire.Header
}

// node is one storenode.
type node struct {
	cluster *cluster
	index   int
	address string
	// silent: takes requests and answers none. deaf: not even Hello. unknown: has heard of no Volume.
	silent, deaf, unknown bool
	listener              *tcp.Listener
	served                sync.WaitGroup
	// answer, if not nil, is the status of every I/O.
	answer wire.Status
	asked  int
	// short: too few Replicas are in sync for changes.
	short bool
}

func newCluster(tb testing.TB, nodes, shards int, shardSize int64) *cluster {
	tb.Helper()
	c := &cluster{
		t: tb, id: ident.UUID{7}, shardSize: shardSize, content: make([]byte, int64(shards)*shardSize), generation: 1,
		flushed: make([]byte, int64(shards)*shardSize),
		applied: map[ident.SessionID][]memory{}, seen: map[wire.Opcode]int{}, chance: rand.New(rand.NewPCG(1, 2)),
	}
	for i := range nodes {
		n := &node{cluster: c, index: i, address: "127.0.0.1:0"}
		c.nodes = append(c.nodes, n)
		n.start()
	}
	tb.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
	})
	for i := range shards {
		r := membership.Record{Epoch: 1, Primary: ident.ReplicaID(i%nodes + 1)}
		for _, n := range c.nodes {
			id := ident.ReplicaID(n.index + 1)
			r.InSync = append(r.InSync, id)
			r.Replicas = append(r.Replicas, membership.Replica{ID: id, Address: n.address})
		}
		c.records = append(c.records, r)
	}
	return c
}

// start listens; at the same address as before, after a kill.
func (n *node) start() {
	l, err := tcp.Listen(n.cluster.t.Context(), n.address, &tcp.Options{
		Pool: buffer.New(64 << 20), Metrics: &tcp.Metrics{}, MaxConnections: 64, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		n.cluster.t.Errorf("restart node %d: %v", n.index, err)
		return
	}
	n.address = l.Address()
	n.cluster.mu.Lock()
	n.listener = l
	n.cluster.mu.Unlock()
	n.served.Go(func() {
		_ = l.Serve(func(transport.Conn) (transport.Handler, error) { return &served{node: n}, nil })
	})
}

// kill ends the process: all connections are cut.
func (n *node) kill() {
	n.cluster.mu.Lock()
	l := n.listener
	n.listener = nil
	n.cluster.mu.Unlock()
	if l != nil {
		_ = l.Close()
		n.served.Wait()
	}
}

// promote makes node i the Primary of the Shards that fits, with a new Epoch.
func (x *cluster) promote(i int, fits func(shard int) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for s := range x.records {
		if fits(s) && x.records[s].Primary != ident.ReplicaID(i+1) {
			x.records[s].Epoch++
			x.records[s].Primary = ident.ReplicaID(i + 1)
		}
	}
}

func all(int) bool { return true }

// set changes a node's behaviour.
func (n *node) set(change func(n *node)) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	change(n)
}

// served is one connection of a node.
type served struct {
	node    *node
	greeted bool
}

func (s *served) Idle(c transport.Conn)        { c.Flush() }
func (s *served) Closed(transport.Conn, error) {}

func (s *served) Frame(c transport.Conn, f *transport.Frame) error {
	n := s.node
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	if f.Payload != nil {
		defer f.Payload.Release()
	}
	switch {
	case n.deaf:
		return nil
	case f.Opcode == wire.OpHello:
		return s.hello(c, f)
	case !s.greeted:
		return errors.New("first frame is no hello")
	case n.silent:
		return nil
	case f.Opcode == wire.OpOpen:
		return n.open(c, f)
	}
	return n.io(c, f)
}

// reply is an answer to f without payload.
func reply(f *transport.Frame, status wire.Status, payload []byte) *transport.Frame {
	a := &transport.Frame{Header: f.Header}
	a.Flags = wire.FlagReply
	a.Status = status
	if payload != nil {
		a.Payload = replies.Get(len(payload))
		copy(a.Payload.Bytes(), payload)
	}
	return a
}

// replies is memory for what nodes answer.
var replies = buffer.New(256 << 20)

func (s *served) hello(c transport.Conn, f *transport.Frame) error {
	var h wire.Hello
	if err := h.Decode(f.Payload.Bytes()); err != nil || h.Role != wire.RoleClient || s.greeted {
		s.node.cluster.t.Errorf("hello %+v: %v", h, err)
	}
	s.greeted = true
	h = wire.Hello{Role: wire.RoleStoreNode, Name: "n", Address: s.node.address}
	return c.Send(reply(f, wire.StatusOK, h.Append(nil)))
}

func (n *node) open(c transport.Conn, f *transport.Frame) error {
	n.asked++
	x := n.cluster
	r := &x.records[f.Shard.Index]
	if _, has := r.Find(ident.ReplicaID(n.index + 1)); !has && f.Flags&wire.FlagUnreached != 0 {
		x.t.Errorf("node %d is told of a Primary of shard %d, which it does not have", n.index, f.Shard.Index)
	}
	if f.Flags&wire.FlagUnreached != 0 && f.Epoch == r.Epoch {
		r.Epoch, r.Primary = r.Epoch+1, ident.ReplicaID(n.index+1) // as if the Primary had yielded
		x.yielded++
	}
	switch {
	case n.unknown:
		return c.Send(reply(f, wire.StatusNotFound, nil))
	case f.Generation < x.generation:
		return c.Send(reply(f, wire.StatusFenced, nil))
	}
	x.generation = f.Generation
	first := int(f.Shard.Index)
	last := min(first+wire.MaxPageShards, len(x.records))
	page := wire.MapPage{
		Volume: x.id, Size: int64(len(x.content)), ShardSize: x.shardSize, Generation: x.generation,
		Shards: uint32(len(x.records)), First: uint32(first), Records: x.records[first:last],
	}
	return c.Send(reply(f, wire.StatusOK, page.Append(nil)))
}

// io answers a request as a Primary would, with the faults that chance brings.
func (n *node) io(c transport.Conn, f *transport.Frame) error {
	x := n.cluster
	hit := func(p float64) bool { return p > 0 && x.chance.Float64() < p }
	if f.Generation < x.generation {
		return c.Send(reply(f, wire.StatusFenced, nil))
	}
	r := x.records[f.Shard.Index]
	switch {
	case n.answer != 0:
		return c.Send(reply(f, n.answer, nil))
	case n.short && f.Opcode != wire.OpRead && f.Opcode != wire.OpFlush:
		a := reply(f, wire.StatusTooFew, nil)
		a.Seq, a.Committed = 1, 2
		return c.Send(a)
	case r.Primary != ident.ReplicaID(n.index+1):
		return c.Send(reply(f, wire.StatusNotPrimary, wire.AppendRecord(nil, r)))
	case r.Epoch != f.Epoch:
		return c.Send(reply(f, wire.StatusStaleEpoch, wire.AppendRecord(nil, r)))
	case hit(x.faults.cutBefore):
		return errCut
	case hit(x.faults.busy):
		return c.Send(reply(f, wire.StatusBusy, nil))
	case hit(x.faults.redirect):
		return c.Send(reply(f, wire.StatusNotPrimary, nil))
	case hit(x.faults.swallow):
		return nil
	}
	a := x.apply(f)
	if a == nil {
		return nil
	}
	if hit(x.faults.cutAfter) {
		if a.Payload != nil {
			a.Payload.Release()
		}
		return errCut
	}
	if hit(x.faults.twice) {
		if a.Payload != nil {
			a.Payload.Retain()
		}
		again := *a
		if err := c.Send(&again); err != nil {
			return err
		}
	}
	return c.Send(a)
}

// apply does what f asks, unless it was done before.
func (x *cluster) apply(f *transport.Frame) *transport.Frame {
	m := x.remember(f)
	if m == nil {
		return nil
	}
	if done, ok := m.done[f.Request]; ok {
		if done.Opcode != f.Opcode || done.Offset != f.Offset || done.Length != f.Length || done.PayloadCRC != f.PayloadCRC {
			x.t.Errorf("request %d of shard %d was %+v, is %+v", f.Request, f.Shard.Index, done, f.Header)
		}
		if f.Opcode != wire.OpRead {
			return reply(f, wire.StatusOK, nil)
		}
	}
	m.done[f.Request] = f.Header
	x.seen[f.Opcode]++
	begin := int64(f.Shard.Index) * x.shardSize
	at := x.content[begin+int64(f.Offset):][:f.Length]
	switch f.Opcode {
	case wire.OpRead:
		return reply(f, wire.StatusOK, at)
	case wire.OpWrite:
		copy(at, f.Payload.Bytes())
	case wire.OpDiscard, wire.OpWriteZeroes:
		clear(at)
	case wire.OpFlush:
		copy(x.flushed[begin:begin+x.shardSize], x.content[begin:])
	}
	return reply(f, wire.StatusOK, nil)
}

// remember checks the numbering; nil if f is older than what its session waits for.
func (x *cluster) remember(f *transport.Frame) *memory {
	if x.applied[f.Session] == nil {
		x.applied[f.Session] = make([]memory, len(x.records))
	}
	m := &x.applied[f.Session][f.Shard.Index]
	if m.done == nil {
		m.done = map[ident.RequestID]wire.Header{}
	}
	floor := ident.RequestID(f.Committed)
	if f.Request == 0 || floor == 0 || floor > f.Request || f.Request-floor >= replication.SessionWindow ||
		f.Request > m.highest+replication.SessionWindow {
		x.t.Errorf("request %d with floor %d, highest was %d", f.Request, floor, m.highest)
	}
	for m.floor < floor {
		delete(m.done, m.floor)
		m.floor++
	}
	m.highest = max(m.highest, f.Request)
	if f.Request < m.floor {
		return nil
	}
	return m
}

func (x *cluster) addresses() []string {
	var list []string
	for _, n := range x.nodes {
		list = append(list, n.address)
	}
	return list
}

// options are those of a Volume of the cluster, with a clock that runs five times as fast.
func (x *cluster) options(generation ident.Generation) Options {
	pool := buffer.New(32 << 20)
	o := Options{
		Volume: x.id, Generation: generation, Addresses: x.addresses(), Node: "here", Pool: pool, Metrics: &Metrics{},
		Log: slog.New(slog.DiscardHandler), AfterFunc: fastClock,
	}
	o.Dialer = tcp.Dialer{Options: &tcp.Options{
		Pool: pool, Metrics: &tcp.Metrics{}, MaxConnections: 1, Log: o.Log,
	}}
	return o
}

const clockSpeed = 5

type fastTimer struct{ *time.Timer }

func (t fastTimer) Reset(d time.Duration) bool { return t.Timer.Reset(d / clockSpeed) }

func fastClock(d time.Duration, f func()) Timer { return fastTimer{time.AfterFunc(d/clockSpeed, f)} }

// open opens the Volume for the length of the test, and checks at its end that no memory is missing.
func (x *cluster) open(tb testing.TB) *Volume {
	tb.Helper()
	o := x.options(1)
	v, err := Open(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := v.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
		if in, _ := o.Pool.Use(); in != 0 {
			tb.Errorf("%d bytes of the pool are lost", in)
		}
	})
	return v
}

// call is a Request somebody waits for.
type call struct {
	Request
	done chan struct{}
}

func (c *call) RequestDone(*Request) { c.done <- struct{}{} }

// begin submits an operation; fill is written, or nil.
func begin(v *Volume, op Op, offset int64, length int, fill []byte) *call {
	c := &call{done: make(chan struct{}, 1)}
	c.Op, c.Offset, c.Length, c.Done = op, offset, length, c
	if op == OpRead || op == OpWrite {
		c.Buffer = v.Buffer(length)
		copy(c.Buffer.Bytes(), fill)
	}
	v.Submit(&c.Request)
	v.Kick()
	return c
}

// end waits for it and gives what was read.
func (c *call) end() ([]byte, error) {
	<-c.done
	var got []byte
	if c.Buffer != nil {
		got = bytes.Clone(c.Buffer.Bytes())
		c.Buffer.Release()
		c.Buffer = nil
	}
	return got, c.Err
}

func do(tb testing.TB, v *Volume, op Op, offset int64, length int, fill []byte) []byte {
	tb.Helper()
	got, err := begin(v, op, offset, length, fill).end()
	if err != nil {
		tb.Fatalf("operation %d at %d: %v", op, offset, err)
	}
	return got
}

// pattern is bytes that tell one write from another.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 16 {
		copy(b[i:], fmt.Sprintf("%08x%08x", seed, i))
	}
	return b
}

// until waits for what others bring about.
func until(is func() bool) {
	for !is() {
		time.Sleep(time.Millisecond)
	}
}

// read is what the storenodes have.
func (x *cluster) read(at int64, n int) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return bytes.Clone(x.content[at : at+int64(n)])
}
