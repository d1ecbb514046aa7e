package sim_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/sim/oracle"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// depth is how many requests a client has in flight in its Shard; a wide one has as many as window allows.
	depth = 12
	// window is how far the ids of a session may be apart.
	window = replication.SessionWindow
	// pauseBusy is how long a client waits that was told to.
	pauseBusy = 30 * time.Millisecond
	// extentBlocks are the Blocks of an Extent.
	extentBlocks = 256
)

// client is the model of a client of one Shard: it writes, discards, flushes and reads at random and checks what it
// reads.
type client struct {
	w       *world
	index   uint32
	oracle  *oracle.Oracle
	record  membership.Record
	last    ident.RequestID
	pending []*request
	closing bool
	// mending are the Blocks that are still to be written once more.
	mending []int64
	// opened: the attachment has fenced all that were before it.
	opened  bool
	history history
	// wide: it changes Blocks all over the Shard, so that windows fill up while nothing goes on.
	wide bool
	// conns lead to the nodes; seen is the Epoch each node was last known to be at.
	conns [nodes]*clientConn
	seen  [nodes]ident.Epoch
}

type request struct {
	header wire.Header
	values []uint64
	// versions of the Blocks that a change makes; floors of what a read may see.
	versions, floors []int
	// traces of the changes in the history.
	traces []int
	// begun is when it was first sent, sent when last.
	begun, sent int64
	tries       int
	// opens: its end is the end of OPEN.
	opens bool
	// touched are the Blocks that a discard of a whole Extent changes; nil if it is all of the range.
	touched []int64
}

func (q *request) first() int64 { return int64(q.header.Offset / ident.BlockSize) }

// block is the i-th that is changed or read.
func (q *request) block(i int) int64 {
	if q.touched != nil {
		return q.touched[i]
	}
	return q.first() + int64(i)
}

// connOwner is whose connection it is: that of the present attachment, or of a former one.
type connOwner interface {
	greeted(k *clientConn)
	answered(from int, f *transport.Frame)
	lost(k *clientConn)
}

// clientConn implements transport.Handler.
type clientConn struct {
	w     *world
	owner connOwner
	to    int
	conn  transport.Conn
	ready bool
}

func newClient(w *world, index uint32) *client {
	wide := w.chance(12)
	return &client{w: w, index: index, wide: wide, oracle: oracle.New(), record: membership.Record{Primary: 1}}
}

// work issues requests, and sends again what was not answered.
func (c *client) work() {
	w := c.w
	most := 8 * time.Millisecond
	if c.wide {
		most = 2 * time.Millisecond
	}
	w.after(w.between(500*time.Microsecond, most), func() {
		defer c.work()
		for _, q := range c.pending {
			if w.t-q.sent > int64(250*time.Millisecond) {
				q.tries++
				c.send(q)
				c.plead()
			}
		}
		switch {
		case !c.opened || len(c.pending) >= depth && !c.wide || c.last+1-c.lowest() >= window:
		case !c.closing:
			c.issue()
		case len(c.mending) > 0:
			c.mendOn()
		}
	})
}

// plead tells a node now and then that it does not reach the Primary, whether that is so or not. Nobody waits for the
// answer, which is to a request that there is not.
func (c *client) plead() {
	k := c.conns[c.w.r.IntN(nodes)]
	if k == nil || !k.ready || !c.w.faulty || !c.w.chance(20) {
		return
	}
	_ = k.conn.Send(&transport.Frame{Header: wire.Header{
		Opcode: wire.OpOpen, Flags: wire.FlagUnreached, Shard: shardID(c.index), Epoch: c.record.Epoch,
		Session: ident.SessionID(c.w.session), Generation: ident.Generation(c.w.generation),
	}})
}

// lowest is the lowest request without an answer, the next one if all have theirs.
func (c *client) lowest() ident.RequestID {
	lowest := c.last + 1
	for _, q := range c.pending {
		lowest = min(lowest, q.header.Request)
	}
	return lowest
}

// place is where the next request goes: around the borders of Extents; of a wide client often right across one.
func (c *client) place() (first int64, blocks int) {
	r := c.w.r
	if c.wide {
		const extents = shardSize / layout.ExtentSize
		if c.w.chance(25) {
			return (1+r.Int64N(extents-1))*extentBlocks - 1, 2
		}
		return r.Int64N(extents*extentBlocks - 3), 1 + r.IntN(3)
	}
	first = int64(r.IntN(3))*extentBlocks + extentBlocks - 4 + int64(r.IntN(8))
	return first, 1 + r.IntN(4)
}

func (c *client) issue() {
	first, blocks := c.place()
	q := &request{header: wire.Header{
		Opcode: wire.OpRead, Offset: uint64(first * ident.BlockSize), Length: uint32(blocks * ident.BlockSize),
	}}
	free := true
	for i := range blocks {
		free = free && !c.oracle.Block(first+int64(i)).Busy
	}
	switch kind := c.w.r.IntN(100); {
	case kind == 0 && c.w.t > c.w.looking && c.clear(q, int64(c.w.r.IntN(shardSize/layout.ExtentSize))):
	case kind < 6:
		q.header.Opcode, q.header.Offset, q.header.Length = wire.OpFlush, 0, 0
		c.cover(q)
	case (kind < 60 || c.wide && kind < 97) && free && c.w.t > c.w.looking:
		c.change(q, blocks)
	default:
		for i := range blocks {
			q.floors = append(q.floors, c.oracle.Block(first+int64(i)).Settled())
		}
	}
	c.ask(q)
}

// clear makes q the discard of a whole Extent, which gives its room back; false while a Block of it is being changed.
func (c *client) clear(q *request, extent int64) bool {
	var touched []int64
	for i := range int64(extentBlocks) {
		if c.wide || i < 8 || i >= extentBlocks-4 {
			touched = append(touched, extent*extentBlocks+i)
		}
	}
	for _, b := range touched {
		if c.oracle.Block(b).Busy {
			return false
		}
	}
	q.header.Opcode, q.touched = wire.OpDiscard, touched
	q.header.Offset, q.header.Length = uint64(extent*layout.ExtentSize), layout.ExtentSize
	for i := range touched {
		c.begin(q, i, 0)
	}
	return true
}

// begin notes a change of the i-th Block.
func (c *client) begin(q *request, i int, value uint64) {
	q.values = append(q.values, value)
	q.versions = append(q.versions, c.oracle.Block(q.block(i)).Begin(value))
	q.traces = append(q.traces, c.history.begin(q.block(i), value, c.w.t))
}

// cover notes what a flush makes durable.
func (c *client) cover(q *request) {
	for _, b := range c.oracle.Blocks() {
		q.floors = append(q.floors, c.oracle.Block(b).Settled())
		q.values = append(q.values, uint64(b))
	}
}

func (c *client) change(q *request, blocks int) {
	q.header.Opcode = wire.OpWrite
	switch c.w.r.IntN(12) {
	case 0:
		q.header.Opcode = wire.OpDiscard
	case 1:
		q.header.Opcode = wire.OpWriteZeroes
	}
	if c.w.r.IntN(10) == 0 {
		q.header.Flags = wire.FlagFUA
	}
	for i := range blocks {
		value := uint64(0)
		if q.header.Opcode == wire.OpWrite {
			value = c.oracle.Unique()
		}
		c.begin(q, i, value)
	}
}

// send passes a request to the Primary, or, when that does not answer, to any node.
func (c *client) send(q *request) {
	w := c.w
	q.sent = w.t
	to := w.home(&c.record, c.record.Primary)
	q.header.Epoch = c.record.Epoch
	switch {
	case q.tries%3 == 2 || to < 0:
		to = w.r.IntN(nodes)
	case q.header.Opcode == wire.OpRead && w.chance(3):
		// As a client that has not heard of anything lately.
		to = w.r.IntN(nodes)
		q.header.Epoch = c.seen[to]
	}
	q.header.Committed = ident.Seq(c.lowest())
	k := c.conns[to]
	if k == nil {
		c.conns[to] = w.dial(c, to)
		return // it is sent again when it was not answered for a while
	}
	if !k.ready {
		return
	}
	copies := 1
	if w.faulty && w.chance(1) {
		copies = 2
	}
	k.transmit(q, copies)
}

func (k *clientConn) transmit(q *request, copies int) {
	for range copies {
		f := transport.Frame{Header: q.header}
		if q.header.Opcode == wire.OpWrite {
			f.Payload = fill(k.w.pool, q.values)
		}
		_ = k.conn.Send(&f)
	}
}

// mend ends the work; where Blocks may have lost their last good copy, it writes all of them once more.
func (c *client) mend() {
	c.closing = true
	if c.w.torn {
		c.mending = c.oracle.Blocks()
	}
}

// mendOn writes the next of those Blocks.
func (c *client) mendOn() {
	b := c.mending[0]
	c.mending = c.mending[1:]
	if c.oracle.Block(b).Busy {
		return
	}
	q := &request{header: wire.Header{
		Opcode: wire.OpWrite, Offset: uint64(b * ident.BlockSize), Length: ident.BlockSize,
	}}
	c.begin(q, 0, c.oracle.Unique())
	c.ask(q)
}

func (w *world) dial(owner connOwner, to int) *clientConn {
	k := &clientConn{w: w, owner: owner, to: to}
	w.after(w.between(50*time.Microsecond, 2*time.Millisecond), func() {
		w.connect(nil, w.nodes[to], k, func(conn transport.Conn, err error) {
			if err != nil {
				w.after(20*time.Millisecond, func() { k.owner.lost(k) })
				return
			}
			k.conn = conn
			hello := wire.Hello{Role: wire.RoleClient, Name: "sim"}
			encoded := hello.Append(nil)
			payload := w.pool.Get(len(encoded))
			copy(payload.Bytes(), encoded)
			_ = conn.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpHello}, Payload: payload})
		})
	})
	return k
}

func (c *client) lost(k *clientConn) {
	if c.conns[k.to] == k {
		c.conns[k.to] = nil
	}
}

// greeted sends what waits for a connection to the Primary.
func (c *client) greeted(k *clientConn) {
	for _, q := range c.pending {
		if c.conns[k.to] == k && c.w.home(&c.record, c.record.Primary) == k.to {
			c.send(q)
		}
	}
}

// Frame implements transport.Handler.
func (k *clientConn) Frame(_ transport.Conn, f *transport.Frame) error {
	defer drop(f)
	if f.Opcode == wire.OpHello {
		k.ready = true
		k.owner.greeted(k)
		return nil
	}
	k.owner.answered(k.to, f)
	return nil
}

// Idle implements transport.Handler.
func (k *clientConn) Idle(transport.Conn) {}

// Closed implements transport.Handler.
func (k *clientConn) Closed(transport.Conn, error) { k.owner.lost(k) }

func (c *client) answered(from int, f *transport.Frame) {
	h := &f.Header
	i := slices.IndexFunc(c.pending, func(q *request) bool { return q.header.Request == h.Request })
	if uint64(h.Session) != c.w.session || i < 0 {
		return
	}
	q := c.pending[i]
	switch h.Status {
	case wire.StatusOK:
		if h.Opcode != wire.OpOpen {
			c.seen[from] = h.Epoch
		}
		c.pending = slices.Delete(c.pending, i, i+1)
		c.check(q, f)
	case wire.StatusNotPrimary, wire.StatusStaleEpoch:
		if f.Payload == nil {
			return
		}
		r, err := wire.DecodeRecord(f.Payload.Bytes())
		if err != nil {
			c.w.failf("client: %v", err)
		}
		if r.Epoch > c.record.Epoch {
			c.record = r
			c.send(q)
		}
	case wire.StatusBusy, wire.StatusTooFew, wire.StatusNotFound:
		c.w.after(pauseBusy, func() {
			if slices.Contains(c.pending, q) && c.w.t-q.sent >= int64(pauseBusy) {
				if h.Status == wire.StatusNotFound { // the Replica may have been replaced: others know by whom
					q.tries++
				}
				c.send(q)
			}
		})
	case wire.StatusCorruption, wire.StatusNoSpace, wire.StatusIO:
		if !c.mayFail(q, h.Status) {
			c.w.failf("client: %s was answered with status %d", show(&q.header), h.Status)
		}
		c.pending = slices.Delete(c.pending, i, i+1)
		c.refused(q)
	case wire.StatusFenced:
		c.w.failf("client of generation %d was fenced", q.header.Generation)
	default:
		c.w.failf("client: %s was answered with status %d", show(&q.header), h.Status)
	}
}

// mayFail reports whether a request may fail so. Some Devices do not give back at all what power has torn.
func (c *client) mayFail(q *request, s wire.Status) bool {
	lost := s == wire.StatusCorruption || s == wire.StatusIO && c.w.whims.Unreadable
	if lost && q.header.Opcode == wire.OpRead && (c.w.unread || c.w.torn && (c.w.rotten != nil || c.isTorn(q))) {
		return true
	}
	if s == wire.StatusNoSpace {
		return q.header.Opcode == wire.OpWrite && !c.w.roomy()
	}
	return s == wire.StatusIO && c.w.sick
}

// isTorn reports whether power has left any of the Blocks without a good copy: what was flushed and not touched since
// is there.
func (c *client) isTorn(q *request) bool {
	for i := range q.floors {
		if c.oracle.Block(q.first() + int64(i)).Torn {
			return true
		}
	}
	return false
}

// refused ends a request that failed: a change may have happened or not.
func (c *client) refused(q *request) {
	for i := range q.versions {
		c.oracle.Block(q.block(i)).Busy = false
	}
	switch {
	case q.opens:
		q = &request{header: wire.Header{Opcode: wire.OpFlush}, opens: true}
		c.cover(q)
		c.ask(q)
	case c.closing && q.header.Opcode == wire.OpWrite:
		c.w.failf("client: %s failed after healing", show(&q.header))
	}
}

func (c *client) check(q *request, f *transport.Frame) {
	switch q.header.Opcode {
	case wire.OpRead:
		for i, floor := range q.floors {
			b := q.first() + int64(i)
			value, err := valueOf(f.Payload.Bytes()[i*ident.BlockSize : (i+1)*ident.BlockSize])
			if err == nil {
				err = c.oracle.Block(b).Seen(value, floor)
				c.history.read(b, value, q.begun, c.w.t)
			}
			if err != nil {
				c.w.failf("shard %d block %d: %v", c.index, b, err)
			}
		}
	case wire.OpOpen:
		c.mapped(f)
	case wire.OpFlush:
		c.opened = c.opened || q.opens
		if q.opens {
			c.w.isFenced(c.index, f.Epoch, q.header.Generation)
		}
		for i, b := range q.values {
			c.oracle.Block(int64(b)).Flushed(q.floors[i])
		}
	default:
		if !c.w.register.mayAcknowledge(c.index, f.Epoch, q.begun) {
			c.w.failf("client: %s is acknowledged with too few in sync", show(&q.header))
		}
		for i, version := range q.versions {
			h := c.oracle.Block(q.block(i))
			h.End(version)
			c.history.end(q.block(i), q.traces[i], c.w.t)
			if q.header.Flags&wire.FlagFUA != 0 {
				h.Flushed(version)
			}
		}
	}
}

// losePower tells that only what was flushed must be there.
func (c *client) losePower() {
	c.oracle.LosePower()
	c.history.forget()
	c.conns = [nodes]*clientConn{} // answers on their way are lost too
	for _, q := range c.pending {
		if q.header.Opcode != wire.OpRead {
			continue
		}
		for i := range q.floors {
			q.floors[i] = min(q.floors[i], c.oracle.Block(q.first()+int64(i)).Settled())
		}
	}
}

// fill is Blocks that hold a value each, at both ends.
func fill(pool *buffer.Pool, values []uint64) *buffer.Buffer {
	b := pool.Get(len(values) * ident.BlockSize)
	data := b.Bytes()
	clear(data)
	for i, v := range values {
		block := data[i*ident.BlockSize : (i+1)*ident.BlockSize]
		binary.LittleEndian.PutUint64(block, v)
		binary.LittleEndian.PutUint64(block[ident.BlockSize-8:], v)
	}
	return b
}

var zeros [ident.BlockSize]byte

func valueOf(block []byte) (uint64, error) {
	a, b := binary.LittleEndian.Uint64(block), binary.LittleEndian.Uint64(block[ident.BlockSize-8:])
	if a != b {
		return 0, fmt.Errorf("a block of two writes, %d and %d", a, b)
	}
	if !bytes.Equal(block[8:ident.BlockSize-8], zeros[8:ident.BlockSize-8]) {
		return 0, fmt.Errorf("a block with %d at both ends, and something else than zeros between", a)
	}
	return a, nil
}

func show(h *wire.Header) string {
	reply := ""
	if h.IsReply() {
		reply = fmt.Sprintf(" reply %d", h.Status)
	}
	const format = "op %d%s shard %d epoch %d seq %d at %d+%d session %d request %d committed %d generation %d"
	return fmt.Sprintf(format, h.Opcode, reply,
		h.Shard.Index, h.Epoch, h.Seq, h.Offset/4096, h.Length/4096, h.Session, h.Request, h.Committed, h.Generation)
}
