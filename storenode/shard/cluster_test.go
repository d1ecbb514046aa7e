package shard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/engine/fault"
	"github.com/shale-storage/shale/storenode/engine/uring"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/shard/shardtest"
	"github.com/shale-storage/shale/storenode/store"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/transport/tcp"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	deviceSize = 128 << 20
	shardSize  = 16 << 20
	// patience bounds what a test waits for; nothing here takes a tenth of it.
	patience = 30 * time.Second
)

var theVolume = ident.UUID{0xaa, 1}

func shardID(index uint32) ident.ShardID { return ident.ShardID{Volume: theVolume, Index: index} }

func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	level := slog.LevelError
	if os.Getenv("SHALE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("test", t.Name())
}

// node is a storenode in this process.
type node struct {
	t         *testing.T
	path      string
	address   string
	register  *shardtest.Register
	authority *shardtest.Authority
	server    *process.Server
	device    *uring.Device
	fault     *fault.Device
	store     *store.Store
	stop      context.CancelFunc
	served    sync.WaitGroup
	scrub     time.Duration
}

// start serves the Device; at the address it had before, if any.
func (n *node) start() {
	t := n.t
	t.Helper()
	address := n.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(t.Context())
	n.stop, n.authority = cancel, n.register.Authority()
	var err error
	n.server, err = process.Start(ctx, process.Config{
		Name: filepath.Base(n.path), Address: address, Incarnation: process.Incarnation(), Authority: n.authority,
		Pool: buffer.New(64 << 20), Log: testLog(t), ScrubPass: n.scrub,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.address = n.server.Address()
	n.open()
	n.served.Go(func() {
		if err := n.server.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	n.authority.Join(n.address, n.server.Host)
}

// open takes the Device into service, formatted if it is new.
func (n *node) open() {
	t := n.t
	t.Helper()
	if _, err := os.Stat(n.path); errors.Is(err, os.ErrNotExist) {
		if err := errors.Join(os.WriteFile(n.path, nil, 0o600), os.Truncate(n.path, deviceSize)); err != nil {
			t.Fatal(err)
		}
		if err := process.Format(n.server.Host, n.path, "test", 1, testLog(t)); err != nil {
			t.Fatal(err)
		}
	}
	monitor := n.server.Host.Monitor()
	var err error
	if n.device, err = uring.Open(n.path, monitor); err != nil {
		t.Fatal(err)
	}
	n.fault = fault.Wrap(n.device, monitor, nil)
	options := store.Options{Owner: monitor, Log: testLog(t), Boot: 1, Overcommit: 4}
	if n.store, err = store.Open(n.fault, options); err != nil {
		t.Fatal(err)
	}
	if err := n.server.Host.AddDevice(n.store); err != nil {
		t.Fatal(err)
	}
}

// down ends the service in order.
func (n *node) down() {
	n.t.Helper()
	n.end()
	if err := errors.Join(n.server.Host.RemoveDevice(n.store.Device()), n.store.Close()); err != nil {
		n.t.Error(err)
	}
}

// kill ends it abruptly: no Checkpoint, and whatever was on its way is lost.
func (n *node) kill() {
	n.t.Helper()
	n.end()
	if err := n.device.Close(); err != nil {
		n.t.Error(err)
	}
}

func (n *node) end() {
	n.authority.Leave()
	n.stop()
	n.server.Stop()
	n.served.Wait()
	n.stop = nil
}

func (n *node) running() bool { return n.stop != nil }

// cluster is a few storenodes with one Volume.
type cluster struct {
	t        *testing.T
	register *shardtest.Register
	nodes    []*node
}

func newCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	return newClusterOf(t, nodes, 0)
}

// newScrubbedCluster looks through its Shards all the time.
func newScrubbedCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	return newClusterOf(t, nodes, time.Second)
}

func newClusterOf(t *testing.T, nodes int, scrub time.Duration) *cluster {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	c := &cluster{t: t, register: shardtest.New()}
	dir := t.TempDir()
	for i := range nodes {
		n := &node{t: t, path: filepath.Join(dir, fmt.Sprintf("n%d.img", i+1)), register: c.register, scrub: scrub}
		n.start()
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.explain()
		}
		for _, n := range c.nodes {
			if n.running() {
				n.down()
			}
		}
		c.register.Close()
	})
	return c
}

// explain shows what the Hosts think.
func (c *cluster) explain() {
	for _, n := range c.nodes {
		if n.running() {
			c.t.Logf("%s: %+v", n.address, n.server.Host.Statuses())
		}
	}
	for i := range uint32(3) {
		c.t.Logf("shard %d: %+v", i, c.register.Record(shardID(i)))
	}
}

// replicas are one on each node; node i has ID i+1.
func (c *cluster) replicas() []membership.Replica {
	var all []membership.Replica
	for i, n := range c.nodes {
		all = append(all, membership.Replica{ID: ident.ReplicaID(i + 1), Device: n.store.Device(), Address: n.address})
	}
	return all
}

// volume makes the Volume, of shards with a Replica on each node.
func (c *cluster) volume(shards int) {
	c.t.Helper()
	m := shard.VolumeMap{Volume: theVolume, Size: int64(shards) * shardSize, ShardSize: shardSize, Generation: 1}
	if err := c.register.CreateVolume(m, c.replicas()); err != nil {
		c.t.Fatal(err)
	}
}

// primary is the node that a Record names.
func (c *cluster) primary(id ident.ShardID) *node {
	return c.nodes[c.register.Record(id).Primary-1]
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// status of a Replica as its Host shows it.
func (n *node) status(id ident.ShardID) shard.Status {
	for _, s := range n.server.Host.Statuses() {
		if s.Key.Shard == id {
			return s
		}
	}
	return shard.Status{}
}

// client sends one request at a time, and again with the same id until it is answered well.
type client struct {
	t       *testing.T
	c       *cluster
	pool    *buffer.Pool
	session ident.SessionID
	next    map[ident.ShardID]ident.RequestID
	conns   map[string]*session
}

var sessions ident.SessionID

func newClient(t *testing.T, c *cluster) *client {
	t.Helper()
	sessions++
	k := &client{
		t: t, c: c, pool: buffer.New(16 << 20), session: sessions, next: map[ident.ShardID]ident.RequestID{},
		conns: map[string]*session{},
	}
	t.Cleanup(k.close)
	return k
}

func (k *client) close() {
	for _, s := range k.conns {
		s.conn.Close(transport.ErrClosed)
		<-s.over
	}
	k.conns = map[string]*session{}
}

// session is a connection of a client.
type session struct {
	conn    transport.Conn
	answers chan transport.Frame
	over    chan struct{}
}

func (s *session) Frame(_ transport.Conn, f *transport.Frame) error {
	s.answers <- *f
	return nil
}
func (s *session) Idle(transport.Conn) {}
func (s *session) Closed(transport.Conn, error) {
	close(s.over)
}

func (k *client) options() *tcp.Options {
	return &tcp.Options{Pool: k.pool, Metrics: &tcp.Metrics{}, Log: slog.New(slog.DiscardHandler), MaxConnections: 8}
}

func (k *client) connect(address string) (*session, error) {
	if s := k.conns[address]; s != nil {
		select {
		case <-s.over:
			delete(k.conns, address)
		default:
			return s, nil
		}
	}
	s := &session{answers: make(chan transport.Frame, 1024), over: make(chan struct{})}
	var err error
	if s.conn, err = (tcp.Dialer{Options: k.options()}).Dial(k.t.Context(), address, s); err != nil {
		return nil, err
	}
	hello := wire.Hello{Role: wire.RoleClient, Name: "test"}
	s.send(k.pool, wire.Header{Opcode: wire.OpHello}, hello.Append(nil))
	k.conns[address] = s
	if _, err := s.receive(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *session) send(pool *buffer.Pool, h wire.Header, payload []byte) {
	f := &transport.Frame{Header: h}
	if payload != nil {
		f.Payload = pool.Get(len(payload))
		copy(f.Payload.Bytes(), payload)
	}
	if s.conn.Send(f) == nil {
		s.conn.Flush()
	}
}

var errNoAnswer = errors.New("no answer")

// receive waits for an answer, and sees to its payload.
func (s *session) receive() (answered, error) {
	select {
	case f := <-s.answers:
		a := answered{Header: f.Header}
		if f.Payload != nil {
			a.payload = append([]byte{}, f.Payload.Bytes()...)
			f.Payload.Release()
		}
		return a, nil
	case <-s.over:
		return answered{}, errNoAnswer
	case <-time.After(time.Second):
		s.conn.Close(errNoAnswer)
		<-s.over
		return answered{}, errNoAnswer
	}
}

type answered struct {
	wire.Header
	payload []byte
}

// once sends one request to a node and waits.
func (k *client) once(address string, h wire.Header, payload []byte) (answered, error) {
	s, err := k.connect(address)
	if err != nil {
		return answered{}, err
	}
	s.send(k.pool, h, payload)
	for {
		a, err := s.receive()
		if err != nil || a.Request == h.Request && a.Opcode == h.Opcode {
			return a, err
		}
	}
}

// do asks until the outcome is final.
func (k *client) do(h wire.Header, payload []byte) answered {
	k.t.Helper()
	k.next[h.Shard]++
	h.Request, h.Session = k.next[h.Shard], k.session
	h.Committed = ident.Seq(h.Request)
	if h.Generation == 0 {
		h.Generation = 1
	}
	var final answered
	eventually(k.t, fmt.Sprintf("operation %d at %d of %s", h.Opcode, h.Offset, h.Shard), func() bool {
		r := k.c.register.Record(h.Shard)
		primary, ok := r.Find(r.Primary)
		if !ok {
			return false
		}
		h.Epoch = r.Epoch
		a, err := k.once(primary.Address, h, payload)
		if err != nil {
			return false
		}
		final = a
		switch a.Status {
		case wire.StatusNotPrimary, wire.StatusStaleEpoch, wire.StatusBusy, wire.StatusNotFound:
			return false
		default:
			return true
		}
	})
	return final
}

func (k *client) write(id ident.ShardID, offset uint64, data []byte) {
	k.t.Helper()
	h := wire.Header{Opcode: wire.OpWrite, Shard: id, Offset: offset, Length: uint32(len(data))}
	if a := k.do(h, data); a.Status != wire.StatusOK {
		k.t.Fatalf("write at %d: status %d", offset, a.Status)
	}
}

func (k *client) read(id ident.ShardID, offset uint64, length uint32) []byte {
	k.t.Helper()
	a := k.do(wire.Header{Opcode: wire.OpRead, Shard: id, Offset: offset, Length: length}, nil)
	if a.Status != wire.StatusOK {
		k.t.Fatalf("read at %d: status %d", offset, a.Status)
	}
	return a.payload
}
