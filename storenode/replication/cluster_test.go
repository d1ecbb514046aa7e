package replication

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// The cluster test runs a few Machines over dumb disks, a network that loses, breaks, delays and cuts one way, and a
// keeper of records that is slow and sometimes away, all from one seed. It is the small and quick sister of package
// sim, which does the same with the real Host and Store.

const clusterSize = 6 * extentSize

var tracing = os.Getenv("CLUSTER_TRACE") != ""

// cluster is one run.
type cluster struct {
	t    int64
	r    *rand.Rand
	heap events
	seq  int
	fail error
	log  strings.Builder

	nodes  []*node
	client *tester
	// wild: frames are doubled and overtake each other, which no real connection does.
	wild bool

	// record in force, and whether its keeper can be reached; deciding counts decisions on their way.
	record   membership.Record
	away     bool
	deciding int
	faulty   bool
	// blackouts so far; answers on their way are lost with them.
	blackouts int
	// trap: the next node that replicates a write dies in the middle of it, and so does the client, so that nobody is left
	// who would write it again.
	trap bool
	// cut[a][b]: what a sends to b is lost.
	cut  map[[2]ident.ReplicaID]bool
	live int
	// rotten Blocks so far, and those that Machines say they healed.
	rotten, healed, differ int
	// short is when a Device was full last.
	short int64
	// differing are the Replicas that are said to differ.
	differing map[ident.ReplicaID]bool
	// min is minInSync; acknowledged are the changes that the client was, or would have been, told to be done.
	min          int
	acknowledged map[acknowledged]bool
}

// acknowledged names a change.
type acknowledged struct {
	session ident.SessionID
	request ident.RequestID
}

type event struct {
	at  int64
	seq int
	f   func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (c *cluster) after(d time.Duration, f func()) {
	c.seq++
	heap.Push(&c.heap, event{at: c.t + int64(d), seq: c.seq, f: f})
}

func (c *cluster) logf(format string, args ...any) {
	if tracing && c.log.Len() < 64<<20 {
		fmt.Fprintf(&c.log, "%9.3fms ", float64(c.t)/1e6)
		fmt.Fprintf(&c.log, format+"\n", args...)
	}
}

func (c *cluster) failf(format string, args ...any) {
	if c.fail == nil {
		c.fail = fmt.Errorf("at %v: %s", time.Duration(c.t), fmt.Sprintf(format, args...))
		c.logf("FAIL %v", c.fail)
	}
}

// between is a random duration.
func (c *cluster) between(a, b time.Duration) time.Duration {
	return a + time.Duration(c.r.Int64N(int64(b-a)+1))
}

func (c *cluster) chance(percent float64) bool { return c.r.Float64()*100 < percent }

// node is a storenode with one Replica.
type node struct {
	c           *cluster
	id          ident.ReplicaID
	disk        *disk
	m           *Machine
	incarnation int
	paused      bool
	// leaving: it is about to end in order.
	leaving bool
	// full: for Extents beyond room, in bytes, there is no space on the Device.
	full bool
	room int
	// isolated from the keeper of records.
	isolated bool
	held     []func()
	rate     float64
	offset   int64
	ops      []*Op
	out, in  map[ident.ReplicaID]*conn
	known    map[ident.ReplicaID]int
	lease    map[ident.ReplicaID]Instant
	promised map[ident.ReplicaID]Instant
	way      map[ident.ReplicaID]*conn
	started  Instant
	rebuilds int
}

// conn is a connection that from dialed; requests of from go by it, and their answers.
type conn struct {
	from, to *node
	// lives are the incarnations of both ends.
	lives  [2]int
	broken bool
	last   [2]int64
}

func (n *node) up() bool { return n.m != nil }

func (n *node) now() Instant { return Instant(float64(n.c.t)*n.rate) + Instant(n.offset) }

// run calls f in the node's present life, unless it ends before; while the node is paused it waits.
func (n *node) run(d time.Duration, f func()) {
	life := n.incarnation
	n.c.after(d, func() { n.deliver(life, f) })
}

func (n *node) deliver(life int, f func()) {
	switch {
	case n.incarnation != life || n.m == nil:
	case n.paused:
		n.held = append(n.held, func() { n.deliver(life, f) })
	default:
		f()
	}
}

func (n *node) start() {
	n.incarnation++
	n.leaving = false
	n.started = n.now()
	n.out, n.in = map[ident.ReplicaID]*conn{}, map[ident.ReplicaID]*conn{}
	n.known, n.lease = map[ident.ReplicaID]int{}, map[ident.ReplicaID]Instant{}
	n.promised, n.way = map[ident.ReplicaID]Instant{}, map[ident.ReplicaID]*conn{}
	n.ops, n.rebuilds = nil, 0
	n.m = New(Config{
		Self: ident.ReplicaKey{Replica: n.id}, Size: clusterSize, Record: n.disk.record, Generation: n.disk.generation,
		Life: uint64(n.incarnation), Environment: n, Timing: DefaultTiming(),
	})
	n.m.Introduced(n.now()) // nobody is connected, and a connection begins with the Record
	n.c.logf("%d starts, knows epoch %d, power lost %v", n.id, n.disk.record.Epoch, n.disk.powerLost)
	life := n.incarnation
	var tick func()
	tick = func() {
		if n.m.Busy() {
			n.m.Tick(n.now())
			n.drive()
		}
		if !n.c.client.closing && n.c.chance(20) {
			n.m.Scrub(n.now(), uint32(n.c.r.IntN(clusterSize/extentSize)))
			n.drive()
		}
		n.beat()
		n.redial()
		if n.incarnation == life {
			n.run(75*time.Millisecond, tick)
		}
	}
	n.run(0, tick)
	n.watch()
}

// watch is the node's look at the keeper of records.
func (n *node) watch() {
	n.run(n.c.between(5*time.Millisecond, 400*time.Millisecond), func() {
		if !n.c.away && !n.isolated {
			n.adopt(n.c.record)
			n.m.Require(n.now(), n.c.min)
			n.drive()
		}
		n.watch()
	})
}

func (n *node) adopt(r membership.Record) {
	n.guarded(func() {
		if err := n.m.Adopt(n.now(), r); err != nil && r.Epoch >= n.m.Record().Epoch {
			n.c.failf("%d: adopt: %v", n.id, err)
		}
	})
}

// guarded is what the Host does around whatever may change the Record.
func (n *node) guarded(f func()) {
	before := n.m.Record()
	f()
	after := n.m.Record()
	if after.Epoch != before.Epoch {
		n.c.logf("%d adopts %d: primary %d of %v", n.id, after.Epoch, after.Primary, after.InSync)
		for _, other := range n.c.nodes {
			if n.out[other.id] != nil && !before.Has(other.id) {
				n.m.Connected(n.now(), other.id, false)
			}
		}
		p := before.Primary
		if in := n.in[p]; p != 0 && p != n.id && p != after.Primary && in != nil {
			in.send(n, n.told(after, p))
		}
	}
	n.drive()
}

// told is a Record for another Replica.
func (n *node) told(r membership.Record, to ident.ReplicaID) Message {
	return Message{
		Header:  wire.Header{Opcode: wire.OpRecord, Epoch: r.Epoch, From: n.id, To: to},
		Payload: newMemory(&n.c.live, nil, wire.AppendRecord(nil, r)),
	}
}

// kill ends the process: what is with the disk may still get there, or not.
func (n *node) kill() {
	n.c.logf("%d dies", n.id)
	for _, op := range n.ops {
		if op.Kind != Read && op.Kind != Flush && n.c.chance(50) {
			n.disk.apply(*op, op.Payload)
			n.disk.since = append(n.disk.since, *op)
		}
	}
	n.m, n.paused, n.held = nil, false, nil
	for _, other := range n.c.nodes {
		for _, conn := range []*conn{n.out[other.id], other.out[n.id]} {
			if conn != nil {
				conn.breaks(n.c.between(0, 2*time.Millisecond))
			}
		}
	}
}

// redial makes connections where there are none.
func (n *node) redial() {
	for _, other := range n.c.nodes {
		if other == n || n.out[other.id] != nil || !other.up() || other.paused ||
			n.c.cut[[2]ident.ReplicaID{n.id, other.id}] || n.c.cut[[2]ident.ReplicaID{other.id, n.id}] {
			continue
		}
		conn := &conn{from: n, to: other, lives: [2]int{n.incarnation, other.incarnation}}
		n.out[other.id], other.in[n.id] = conn, conn
		if r := other.m.Record(); r.Epoch > 0 {
			conn.send(other, other.told(r, n.id))
		}
		restarted := n.known[other.id] != 0 && n.known[other.id] != other.incarnation
		if restarted {
			n.lease[other.id] = 0
		}
		n.known[other.id] = other.incarnation
		n.m.Connected(n.now(), other.id, restarted)
		n.drive()
	}
}

// beat asks for leases.
func (n *node) beat() {
	for _, other := range n.c.nodes {
		if conn := n.out[other.id]; conn != nil {
			conn.send(n, Message{Header: wire.Header{
				Opcode: wire.OpHeartbeat, Request: ident.RequestID(n.now()), From: n.id, To: other.id,
			}})
		}
	}
}

func (c *conn) breaks(d time.Duration) {
	if c.broken {
		return
	}
	c.broken = true
	c.from.run(d, func() {
		if n := c.from; n.out[c.to.id] == c {
			delete(n.out, c.to.id)
			n.m.Disconnected(n.now(), c.to.id)
			n.drive()
		}
	})
}

// send passes a message from one of the ends to the other.
func (c *conn) send(by *node, message Message) {
	k, end, way := by.c, c.to, 0
	if by == c.to {
		end, way = c.from, 1
	}
	lost := c.broken || c.lives != [2]int{c.from.incarnation, c.to.incarnation}
	if !lost && k.cut[[2]ident.ReplicaID{by.id, end.id}] {
		lost = true
		k.after(1500*time.Millisecond, func() { c.breaks(0) })
	}
	if lost {
		release(message.Payload)
		return
	}
	arrive := max(c.last[way], k.t+int64(k.between(20*time.Microsecond, 300*time.Microsecond)))
	if k.faulty && k.chance(0.2) {
		arrive += int64(k.between(0, 30*time.Millisecond))
	}
	ours := message.Opcode != wire.OpHeartbeat && message.Opcode != wire.OpRecord
	if k.wild && ours && k.chance(5) {
		copied := message
		if copied.Payload != nil {
			copied.Payload.Retain()
		}
		k.after(k.between(0, 800*time.Millisecond), func() { c.arrives(end, copied, true) })
	}
	if k.wild && ours && k.faulty && k.chance(2) {
		arrive += int64(k.between(0, 100*time.Millisecond)) // others overtake it
	} else {
		c.last[way] = arrive
	}
	k.after(time.Duration(arrive-k.t), func() { c.arrives(end, message, false) })
}

func (c *conn) arrives(end *node, message Message, copied bool) {
	dead := c.broken && !copied || c.lives != [2]int{c.from.incarnation, c.to.incarnation} || !end.up()
	if dead {
		release(message.Payload)
		return
	}
	life := end.incarnation
	end.deliver(life, func() {
		if c.broken && !copied {
			release(message.Payload)
			return
		}
		end.receive(c, &message)
	})
}

func release(p Payload) {
	if p != nil {
		p.Release()
	}
}

func (n *node) receive(c *conn, message *Message) {
	h := &message.Header
	switch {
	case h.Opcode == wire.OpHeartbeat && !h.IsReply():
		if n.in[h.From] == c {
			n.promised[h.From] = n.now()
			flags := wire.FlagReply
			if n.leaving {
				flags |= wire.FlagLeaving
			}
			c.send(n, Message{Header: wire.Header{
				Opcode: wire.OpHeartbeat, Flags: flags, Request: h.Request, From: n.id, To: h.From,
			}})
		}
		return
	case h.Opcode == wire.OpHeartbeat:
		if n.out[h.From] == c {
			n.lease[h.From] = max(n.lease[h.From], Instant(h.Request).After(n.m.c.Timing.Lease))
			if h.Flags&wire.FlagLeaving != 0 {
				n.m.Leaves(n.now(), h.From)
				n.drive()
			}
		}
		return
	case !h.IsReply():
		n.way[h.From] = c
	}
	n.c.logf("%d<-%d %s", n.id, h.From, show(h))
	n.guarded(func() { n.m.Step(n.now(), message) })
}

// drive does what the Machine has Ready.
func (n *node) drive() {
	for {
		ready, ok := n.m.Ready()
		if !ok {
			return
		}
		if ready.Record != nil {
			r := *ready.Record
			n.run(n.latency(), func() {
				n.disk.record = r
				n.m.Persisted(n.now(), r.Epoch, nil)
				n.drive()
			})
		}
		if ready.Generation != 0 {
			n.disk.generation = ready.Generation
		}
		if ready.Sound {
			n.disk.powerLost = false
		}
		for _, op := range ready.Stores {
			n.submit(op)
		}
		for _, message := range ready.Sends {
			n.send(message)
		}
		if ready.Propose != nil {
			n.c.propose(n, *ready.Propose)
		}
		for _, f := range ready.Findings {
			n.c.found(n, f)
		}
		n.m.Done()
	}
}

func (n *node) latency() time.Duration {
	if n.c.faulty && n.c.chance(0.3) {
		return n.c.between(0, 60*time.Millisecond)
	}
	return n.c.between(10*time.Microsecond, 150*time.Microsecond)
}

// submit carries out an Op after a while. Two that overlap must never be there together.
func (n *node) submit(op *Op) {
	for _, o := range n.ops {
		changes := o.Kind != Read && o.Kind != Flush || op.Kind != Read && op.Kind != Flush
		if changes && o.Kind != Flush && op.Kind != Flush &&
			o.Offset < op.Offset+int64(op.Length) && op.Offset < o.Offset+int64(o.Length) {
			n.c.failf("%d: overlapping Ops in flight: %+v and %+v", n.id, *o, *op)
		}
	}
	n.ops = append(n.ops, op)
	n.run(n.latency(), func() {
		n.ops = slices.DeleteFunc(n.ops, func(o *Op) bool { return o == op })
		switch op.Kind {
		case Read:
			if n.c.faulty && n.c.chance(1) {
				op.Err = ErrBusy
				break
			}
			if n.disk.hasBad(op) {
				op.Err = [...]error{ErrCorruption, errUnreadable}[n.c.r.IntN(2)]
				break
			}
			op.Payload = newMemory(&n.c.live, n.disk.read(op), nil)
		case Flush:
			n.disk.flush()
		default:
			n.change(op)
		}
		n.m.Stored(n.now(), op)
		n.drive()
	})
}

func (n *node) send(message Message) {
	if route, ok := message.Route.(*tester); ok {
		n.c.answered(n, &message)
		blackouts := n.c.blackouts
		n.c.after(n.c.between(20*time.Microsecond, 300*time.Microsecond), func() {
			if n.c.faulty && n.c.chance(1) || blackouts != n.c.blackouts {
				release(message.Payload)
				return
			}
			route.answer(n, &message)
		})
		return
	}
	c := n.out[message.To]
	if message.IsReply() {
		c = n.way[message.To]
	}
	if c == nil {
		release(message.Payload)
		return
	}
	n.c.logf("%d->%d %s", n.id, message.To, show(&message.Header))
	c.send(n, message)
	if n.c.trap && n.c.faulty && message.Opcode == wire.OpReplWrite && !message.IsReply() {
		n.c.trap = false
		for _, other := range n.out {
			other.broken = other.broken || other != c
		}
		n.c.after(400*time.Microsecond, func() {
			if n.up() {
				n.c.client.restart()
				n.c.client.looking = n.c.t + int64(6*time.Second)
				n.c.crash(n, false)
			}
		})
	}
}

// shown prints a header, when it is printed at all.
type shown struct{ *wire.Header }

func show(h *wire.Header) shown { return shown{h} }

func (s shown) String() string {
	h := s.Header
	reply := ""
	if h.IsReply() {
		reply = fmt.Sprintf(" reply %d", h.Status)
	}
	const format = "op %d%s epoch %d seq %d at %d+%d session %d request %d committed %d step %d"
	return fmt.Sprintf(format, h.Opcode, reply, h.Epoch, h.Seq,
		h.Offset/4096, h.Length/4096, h.Session, h.Request, h.Committed, h.Generation)
}

// LeaseUntil and the rest implement Environment.
func (n *node) LeaseUntil(id ident.ReplicaID) Instant { return n.lease[id] }
func (n *node) Promised(id ident.ReplicaID) Instant   { return max(n.promised[id], n.started) }
func (n *node) Tail(into []wire.TailRecord) []wire.TailRecord {
	return append(into, n.disk.tail...)
}
func (n *node) LastSeq() ident.Seq                  { return n.disk.last }
func (n *node) PowerLost() bool                     { return n.disk.powerLost }
func (n *node) Doubtful(func(offset, length int64)) {}
func (n *node) Extents(from uint32, f func(wire.ExtentDigest) bool) {
	for _, x := range n.disk.extents() {
		if x >= from && !f(n.disk.digest(x)) {
			return
		}
	}
}

func (n *node) Written(extent uint32) bitmap.Bitmap { return n.disk.written(extent) }

func (n *node) Checksum(offset int64) (sum uint32, written bool) {
	v, written := n.disk.blocks[offset/ident.BlockSize]
	return uint32(v), written
}
func (n *node) Sum(p Payload) uint32 { return uint32(p.(*memory).values[0]) }

func (n *node) Observe(time.Duration) {}
func (n *node) AcquireRebuild(int) bool {
	if n.rebuilds == 2 {
		return false
	}
	n.rebuilds++
	return true
}
func (n *node) ReleaseRebuild() { n.rebuilds-- }
func (n *node) Encode(encoded []byte) Payload {
	if n.c.faulty && n.c.chance(1) {
		return nil
	}
	return newMemory(&n.c.live, nil, slices.Clone(encoded))
}
func (n *node) Bytes(p Payload) []byte { return p.(*memory).bytes }

// propose is the way of a proposal to the keeper of records and back.
func (c *cluster) propose(n *node, next membership.Record) {
	c.logf("%d proposes %d: primary %d of %v", n.id, next.Epoch, next.Primary, next.InSync)
	life := n.incarnation
	c.deciding++
	c.after(c.between(time.Millisecond, 60*time.Millisecond), func() {
		c.deciding--
		if c.away || n.isolated {
			if n.incarnation == life {
				c.after(300*time.Millisecond, func() {
					if n.incarnation == life && n.m != nil && n.m.Record().Epoch < next.Epoch {
						c.propose(n, next)
					}
				})
			}
			return
		}
		c.swap(next)
		if c.chance(90) && n.incarnation == life && !n.isolated {
			n.run(c.between(time.Millisecond, 30*time.Millisecond), func() { n.adopt(c.record) })
		}
	})
}

func (c *cluster) swap(next membership.Record) {
	if next.Epoch != c.record.Epoch+1 {
		return
	}
	if err := sound(next); err != nil {
		c.failf("proposed: %v", err)
	}
	c.record = next
	c.logf("in force: %d: primary %d of %v", next.Epoch, next.Primary, next.InSync)
}

// answered looks at what a node tells the client: only one may serve at a time.
func (c *cluster) answered(n *node, message *Message) {
	if message.Opcode == wire.OpRead && (message.Status == wire.StatusCorruption || message.Status == wire.StatusIO) {
		c.refusedRead(n, message)
	}
	if message.Status == wire.StatusNoSpace && (message.Opcode != wire.OpWrite || c.roomy()) {
		c.failf("%d: request %d finds no space, and there is some everywhere", n.id, message.Request)
	}
	if message.Status != wire.StatusOK {
		return
	}
	if message.Opcode != wire.OpRead {
		c.counted(n, message)
		return
	}
	for _, other := range c.nodes {
		if other == n || !other.up() || other.paused {
			continue
		}
		other.m.at(other.now())
		if other.m.stage == stageServing && other.m.serving() {
			c.failf("%d answers a read of epoch %d while %d serves epoch %d",
				n.id, n.m.record.Epoch, other.id, other.m.record.Epoch)
		}
	}
}

// counted looks whether enough Replicas have a change when it is acknowledged; later it is only repeated.
func (c *cluster) counted(n *node, message *Message) {
	key := acknowledged{message.Session, message.Request}
	if message.Opcode == wire.OpFlush || c.acknowledged[key] {
		return
	}
	c.acknowledged[key] = true
	if inSync := n.m.Record().InSync; len(inSync) < c.min {
		c.failf("%d acknowledges request %d with %v in sync, %d are asked for", n.id, message.Request, inSync, c.min)
	}
}

// newCluster makes three nodes with an empty Shard each.
func newCluster(seed uint64) *cluster {
	c := &cluster{r: rand.New(rand.NewPCG(seed, 1)), cut: map[[2]ident.ReplicaID]bool{}, faulty: true}
	c.differing = map[ident.ReplicaID]bool{}
	c.wild, c.min, c.acknowledged = seed%3 == 0, 1+int(seed%2), map[acknowledged]bool{}
	c.record = membership.Record{Epoch: 1, Primary: 1}
	for i := range ident.ReplicaID(3) {
		n := &node{
			c: c, id: i + 1, disk: newDisk(), rate: 0.97 + 0.06*c.r.Float64(), offset: c.r.Int64N(1 << 40),
		}
		c.nodes = append(c.nodes, n)
		c.record.InSync = append(c.record.InSync, n.id)
		c.record.Replicas = append(c.record.Replicas, membership.Replica{ID: n.id})
	}
	for _, n := range c.nodes {
		n.start()
	}
	c.client = newTester(c)
	return c
}

func (c *cluster) node(id ident.ReplicaID) *node { return c.nodes[id-1] }

// operate is the operator: it promotes when the Primary seems dead, sometimes wrongly, late, and twice.
func (c *cluster) operate() {
	c.after(c.between(200*time.Millisecond, 800*time.Millisecond), func() {
		defer c.operate()
		r := c.record
		wrong := c.faulty && (c.chance(4) || len(c.cut) > 0 && c.chance(30))
		if c.away || r.Primary != 0 && c.node(r.Primary).up() && !c.node(r.Primary).paused && !wrong {
			return
		}
		next := membership.Record{Epoch: r.Epoch + 1, InSync: r.InSync, Replicas: r.Replicas}
		for _, i := range c.r.Perm(len(r.InSync)) {
			if id := r.InSync[i]; id != r.Primary && c.node(id).up() {
				next.Primary = id
			}
		}
		if next.Primary == 0 {
			return
		}
		if !c.node(next.Primary).disk.powerLost && c.chance(50) {
			next.InSync = slices.DeleteFunc(slices.Clone(r.InSync), func(id ident.ReplicaID) bool { return id == r.Primary })
		}
		for range 2 {
			c.deciding++
			c.after(c.between(0, 900*time.Millisecond), func() {
				c.deciding--
				if !c.away {
					c.swap(next)
				}
			})
		}
	})
}

// harm does some damage and undoes it later.
func (c *cluster) harm() {
	c.after(c.between(100*time.Millisecond, 2500*time.Millisecond), func() {
		if !c.faulty {
			return
		}
		defer c.harm()
		n := c.nodes[c.r.IntN(len(c.nodes))]
		other := c.nodes[c.r.IntN(len(c.nodes))]
		switch kind := c.r.IntN(130); {
		case kind >= 120:
			n.fill()
		case kind >= 110:
			c.retire(n)
		case kind >= 100:
			c.rot(n)
		case kind < 25:
			c.crash(n, false)
		case kind < 35:
			c.crash(n, true)
		case kind < 38:
			c.blackout()
		case kind < 48:
			c.trap = true
		case kind < 58 && other != n:
			c.logf("cut %d->%d", n.id, other.id)
			both := c.chance(50)
			c.cut[[2]ident.ReplicaID{n.id, other.id}] = true
			if both {
				c.cut[[2]ident.ReplicaID{other.id, n.id}] = true
			}
			c.after(c.between(100*time.Millisecond, 5*time.Second), func() {
				c.logf("heal %d->%d", n.id, other.id)
				delete(c.cut, [2]ident.ReplicaID{n.id, other.id})
				delete(c.cut, [2]ident.ReplicaID{other.id, n.id})
			})
		case kind < 64:
			c.isolate(n)
		case kind < 72:
			if conn := n.out[other.id]; conn != nil {
				c.logf("break %d->%d", n.id, other.id)
				conn.breaks(c.between(0, 20*time.Millisecond))
			}
		case kind < 82:
			c.pause(n)
		case kind < 92:
			c.away = true
			c.after(c.between(100*time.Millisecond, 4*time.Second), func() { c.away = false })
		default:
			c.client.restart()
		}
	})
}

// isolate leaves a node with nothing but its client.
func (c *cluster) isolate(n *node) {
	c.logf("isolate %d", n.id)
	change := func(to bool) {
		n.isolated = to
		for _, other := range c.nodes {
			for _, way := range [][2]ident.ReplicaID{{n.id, other.id}, {other.id, n.id}} {
				if delete(c.cut, way); to && other != n {
					c.cut[way] = true
				}
			}
		}
	}
	change(true)
	c.after(c.between(500*time.Millisecond, 8*time.Second), func() {
		c.logf("rejoin %d", n.id)
		change(false)
	})
}

func (c *cluster) pause(n *node) {
	if !n.up() || n.paused {
		return
	}
	c.logf("pause %d", n.id)
	n.paused = true
	life := n.incarnation
	c.after(c.between(10*time.Millisecond, 5*time.Second), func() {
		if n.incarnation != life || !n.paused {
			return
		}
		c.logf("resume %d", n.id)
		n.paused = false
		held := n.held
		n.held = nil
		for _, f := range held {
			f()
		}
	})
}

// retire ends a node in order: it hands over first, as far as it can within a time.
func (c *cluster) retire(n *node) {
	if !n.up() || n.paused {
		return
	}
	c.logf("%d is to end", n.id)
	n.leaving = true
	n.m.Leave(n.now())
	n.drive()
	life := n.incarnation
	deadline := c.t + int64(c.between(0, 5*time.Second))
	var look func()
	look = func() {
		switch {
		case n.incarnation != life || !n.up():
		case c.t >= deadline || !n.m.Held():
			c.crash(n, false)
		default:
			c.after(20*time.Millisecond, look)
		}
	}
	look()
}

func (c *cluster) crash(n *node, power bool) {
	if !n.up() || power && !c.mayLosePower(n) {
		return
	}
	n.kill()
	if power {
		c.logf("%d loses power", n.id)
		n.disk.losePower(c.r)
	}
	c.after(c.between(50*time.Millisecond, 5*time.Second), func() {
		if !n.up() {
			n.start()
		}
	})
}

// mayLosePower: another member of InSync must keep what was acknowledged and not flushed, and stay one.
func (c *cluster) mayLosePower(n *node) bool {
	if c.deciding > 0 {
		return false
	}
	for _, id := range c.record.InSync {
		if o := c.node(id); o != n && !o.disk.powerLost {
			return true
		}
	}
	return false
}

// blackout takes the power of all at once; then only what was flushed must be there.
func (c *cluster) blackout() {
	c.logf("blackout")
	c.blackouts++
	for _, n := range c.nodes {
		if n.up() {
			n.kill()
		}
		n.disk.losePower(c.r)
		c.after(c.between(50*time.Millisecond, 2*time.Second), func() {
			if !n.up() {
				n.start()
			}
		})
	}
	c.client.oracle.LosePower()
	for _, q := range c.client.pending {
		if q.header.Opcode == wire.OpRead {
			for i := range q.floors {
				q.floors[i] = min(q.floors[i], c.client.oracle.Block(q.first()+int64(i)).Settled())
			}
		}
	}
}

// run is the whole story; it returns why the run failed.
func (c *cluster) run(faults time.Duration) error {
	c.operate()
	c.harm()
	c.client.work()
	c.until(faults, func() bool { return false })
	c.faulty, c.away = false, false
	clear(c.cut)
	for _, n := range c.nodes {
		n.paused, n.isolated, n.full = false, false, false
		held := n.held
		n.held = nil
		for _, f := range held {
			f()
		}
		if !n.up() {
			n.start()
		}
	}
	c.until(3*time.Second, func() bool { return false })
	c.client.closing = true
	if !c.until(90*time.Second, c.quiet) && c.fail == nil {
		c.failf("no progress after healing: %s", c.describe())
	}
	c.compare()
	return c.fail
}

func (c *cluster) until(d time.Duration, done func() bool) bool {
	for end := c.t + int64(d); c.fail == nil && len(c.heap) > 0 && c.heap[0].at <= end; {
		e := heap.Pop(&c.heap).(event)
		c.t = e.at
		e.f()
		if done() {
			return true
		}
	}
	return false
}

func (c *cluster) quiet() bool {
	if len(c.record.InSync) < len(c.nodes) || len(c.client.pending) > 0 {
		return false
	}
	for _, n := range c.nodes {
		if !n.up() || len(n.ops) > 0 || n.m.Busy() || n.m.Record().Epoch != c.record.Epoch {
			return false
		}
	}
	return true
}

func (c *cluster) describe() string {
	text := fmt.Sprintf("epoch %d primary %d in sync %v, %d requests wait;",
		c.record.Epoch, c.record.Primary, c.record.InSync, len(c.client.pending))
	for _, n := range c.nodes {
		if n.up() {
			s := n.m.Status()
			text += fmt.Sprintf(" %d: epoch %d role %d stage %d busy %v %q;",
				n.id, s.Record.Epoch, s.Role, n.m.stage, n.m.Busy(), s.Message)
		}
	}
	return text
}

// compare looks at the Replicas at rest.
func (c *cluster) compare() {
	if c.fail != nil {
		return
	}
	first := c.nodes[0].disk.String()
	for _, n := range c.nodes[1:] {
		if other := n.disk.String(); other != first {
			c.failf("replicas differ at rest:\n1: %s\n%d: %s", first, n.id, other)
		}
	}
	for _, b := range c.client.oracle.Blocks() {
		h := c.client.oracle.Block(b)
		if err := h.Seen(c.nodes[0].disk.blocks[b], h.Settled()); err != nil {
			c.failf("block %d at rest: %v", b, err)
		}
	}
}

// seeds are those to run: n, or as many as CLUSTER_SEEDS says, or the one of CLUSTER_SEED.
func seeds(t *testing.T, n int) []uint64 {
	t.Helper()
	if text := os.Getenv("CLUSTER_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	if more, err := strconv.Atoi(os.Getenv("CLUSTER_SEEDS")); err == nil {
		n = more
	}
	if testing.Short() {
		n /= 10
	}
	all := make([]uint64, n)
	for i := range all {
		all[i] = uint64(i + 1)
	}
	return all
}

func TestAClusterLosesNothingWhateverHappens(t *testing.T) {
	for _, seed := range seeds(t, 100) {
		c := newCluster(seed)
		if err := c.run(15 * time.Second); err != nil {
			if path := os.Getenv("CLUSTER_TRACE"); path != "" {
				_ = os.WriteFile(path, []byte(c.log.String()), 0o600)
			}
			const replay = "CLUSTER_SEED=%d CLUSTER_TRACE=/tmp/trace go test -run %s ./storenode/replication"
			t.Fatalf("%v\nreplay: "+replay, err, seed, t.Name())
		}
	}
}
