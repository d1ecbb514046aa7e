package replication

import (
	"slices"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/sim/oracle"
	"github.com/shale-storage/shale/storenode/wire"
)

// tester is the client of the cluster test: it writes, discards, flushes and reads Blocks at random and checks what it
// reads.
type tester struct {
	c          *cluster
	oracle     *oracle.Oracle
	record     membership.Record
	session    ident.SessionID
	generation ident.Generation
	last       ident.RequestID
	pending    []*request
	closing    bool
	// looking until then: it only reads.
	looking int64
	// answered, and those of it for which there was no space.
	answered, short int
}

type request struct {
	header wire.Header
	values []uint64
	// versions of the Blocks that a write makes; floors of what a read may see.
	versions, floors []int
	sent             int64
	tries            int
}

func newTester(c *cluster) *tester {
	return &tester{c: c, oracle: oracle.New(), record: c.record, session: 1, generation: 1}
}

// restart is another life of the client: what was outstanding may have been carried out, or not.
func (x *tester) restart() {
	for _, q := range x.pending {
		if len(q.versions) > 0 {
			for i := range q.versions {
				x.oracle.Block(q.first() + int64(i)).Busy = false
			}
		}
	}
	x.session++
	x.generation++
	x.pending, x.last = nil, 0
	x.c.logf("client restarts as session %d", x.session)
}

func (q *request) first() int64 { return int64(q.header.Offset / ident.BlockSize) }

// work issues requests, and sends again what was not answered.
func (x *tester) work() {
	x.c.after(x.c.between(100*time.Microsecond, 4*time.Millisecond), func() {
		defer x.work()
		for _, q := range x.pending {
			if x.c.t-q.sent > int64(250*time.Millisecond) {
				q.tries++
				x.send(q)
			}
		}
		if !x.closing && len(x.pending) < 12 &&
			(len(x.pending) == 0 || x.last-x.pending[0].header.Request < SessionWindow-1) {
			x.issue()
		}
	})
}

// place is a random range: few Blocks around the borders of few Extents, so that requests meet.
func (x *tester) place() (first int64, blocks int) {
	r := x.c.r
	return int64(r.IntN(4))*extentBlocks + extentBlocks - 4 + int64(r.IntN(8)), 1 + r.IntN(4)
}

func (x *tester) issue() {
	r := x.c.r
	x.last++
	q := &request{header: wire.Header{
		Opcode: wire.OpRead, Session: x.session, Request: x.last, Generation: x.generation,
	}}
	first, blocks := x.place()
	q.header.Offset, q.header.Length = uint64(first*ident.BlockSize), uint32(blocks*ident.BlockSize)
	free := true
	for i := range blocks {
		free = free && !x.oracle.Block(first+int64(i)).Busy
	}
	switch kind := r.IntN(100); {
	case kind < 8:
		q.header.Opcode, q.header.Offset, q.header.Length = wire.OpFlush, 0, 0
	case kind < 60 && free && x.c.t > x.looking:
		q.header.Opcode = wire.OpWrite
		if r.IntN(10) == 0 {
			q.header.Flags = wire.FlagFUA
		}
		switch r.IntN(12) {
		case 0:
			q.header.Opcode = wire.OpDiscard
		case 1:
			q.header.Opcode = wire.OpWriteZeroes
		}
		x.write(q, first, blocks)
	default:
		for i := range blocks {
			q.floors = append(q.floors, x.oracle.Block(first+int64(i)).Settled())
		}
	}
	if q.header.Opcode == wire.OpFlush {
		for _, b := range x.oracle.Blocks() {
			q.floors = append(q.floors, x.oracle.Block(b).Settled())
			q.values = append(q.values, uint64(b))
		}
	}
	x.pending = append(x.pending, q)
	x.send(q)
}

func (x *tester) write(q *request, first int64, blocks int) {
	for i := range blocks {
		value := uint64(0)
		if q.header.Opcode == wire.OpWrite {
			value = x.oracle.Unique()
		}
		q.values = append(q.values, value)
		q.versions = append(q.versions, x.oracle.Block(first+int64(i)).Begin(value))
	}
}

func (x *tester) send(q *request) {
	q.sent = x.c.t
	to := x.record.Primary
	if to == 0 || q.tries%3 == 2 {
		to = ident.ReplicaID(1 + x.c.r.IntN(3))
	}
	q.header.Epoch = x.record.Epoch
	q.header.Committed = ident.Seq(x.last + 1)
	for _, p := range x.pending {
		q.header.Committed = min(q.header.Committed, ident.Seq(p.header.Request))
	}
	copies := 1
	if x.c.faulty && x.c.chance(2) {
		copies = 2
	}
	n := x.c.node(to)
	for i := range copies {
		message := Message{Header: q.header, Route: x}
		if q.header.Opcode == wire.OpWrite {
			message.PayloadLength = q.header.Length
			message.Payload = newMemory(&x.c.live, q.values, nil)
		}
		delay := x.c.between(20*time.Microsecond, 200*time.Microsecond)
		if i > 0 {
			delay = x.c.between(0, 20*time.Millisecond)
		}
		x.c.after(delay, func() {
			if !n.up() || x.c.faulty && x.c.chance(1) {
				release(message.Payload)
				return
			}
			n.deliver(n.incarnation, func() {
				x.c.logf("%d<-client %s", n.id, show(&message.Header))
				n.m.Step(n.now(), &message)
				n.drive()
			})
		})
	}
}

// answer takes what a node answered.
func (x *tester) answer(n *node, message *Message) {
	defer func() { release(message.Payload) }()
	h := &message.Header
	x.c.logf("client<-%d %s", n.id, show(h))
	i := slices.IndexFunc(x.pending, func(q *request) bool { return q.header.Request == h.Request })
	if h.Session != x.session || i < 0 {
		return
	}
	q := x.pending[i]
	switch h.Status {
	case wire.StatusOK:
		x.pending = slices.Delete(x.pending, i, i+1)
		x.answered++
		x.check(q, message)
	case wire.StatusNotPrimary, wire.StatusStaleEpoch:
		if message.Payload == nil {
			return
		}
		r, err := wire.DecodeRecord(message.Payload.(*memory).bytes)
		if err != nil {
			x.c.failf("client: %v", err)
		}
		if r.Epoch > x.record.Epoch {
			x.record = r
			x.send(q)
		}
	case wire.StatusCorruption, wire.StatusIO: // the cluster has checked that no Replica has it
		x.pending = slices.Delete(x.pending, i, i+1)
	case wire.StatusNoSpace: // the cluster has checked that it may be so; it happened or did not
		x.pending = slices.Delete(x.pending, i, i+1)
		x.short++
		for i := range q.versions {
			x.oracle.Block(q.first() + int64(i)).Busy = false
		}
	case wire.StatusBusy, wire.StatusTooFew:
		x.c.after(20*time.Millisecond, func() {
			if slices.Contains(x.pending, q) {
				x.send(q)
			}
		})
	default:
		x.c.failf("client: request %d was answered with status %d", h.Request, h.Status)
	}
}

func (x *tester) check(q *request, message *Message) {
	switch q.header.Opcode {
	case wire.OpRead:
		for i, value := range message.Payload.(*memory).values {
			b := q.first() + int64(i)
			if err := x.oracle.Block(b).Seen(value, q.floors[i]); err != nil {
				x.c.failf("block %d: %v", b, err)
			}
		}
	case wire.OpFlush:
		for i, b := range q.values {
			x.oracle.Block(int64(b)).Flushed(q.floors[i])
		}
	default:
		for i, version := range q.versions {
			h := x.oracle.Block(q.first() + int64(i))
			h.End(version)
			if q.header.Flags&wire.FlagFUA != 0 {
				h.Flushed(version)
			}
		}
	}
}
