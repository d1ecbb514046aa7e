package replication

import (
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// opKind is what an operation of a Primary is.
type opKind uint8

const (
	kindRead opKind = iota + 1
	kindWrite
	kindDiscard
	kindZeroes
	kindFlush
	// kindCopy makes a range of members equal to the Primary's.
	kindCopy
	// kindHeal looks through a range here for Blocks that cannot be read, and takes them from another Replica.
	kindHeal
	// kindScrub looks whether all members of InSync can read a range, or whether an Extent is the same on all.
	kindScrub
)

// opState is where an operation is.
type opState uint8

const (
	// opWaiting for earlier operations that overlap.
	opWaiting opState = iota + 1
	// opQueued to begin: nothing overlaps; leases or room in the window may be missing.
	opQueued
	// opRunning: local Op or members have it.
	opRunning
	// opCopying its range in steps; for a write: one that somebody had no space for, and that is being undone.
	opCopying
)

// operation is one operation of a Primary, from the request to the moment when all targets have it.
type operation struct {
	kind  opKind
	state opState
	fua   bool
	// internal: no client asked for it.
	internal bool
	// answered the client.
	answered bool
	// arrived is when the client's request did.
	arrived Instant
	// status to answer, decided by the local Op.
	status wire.Status
	offset int64
	length int
	// blockers are earlier operations that overlap and conflict.
	blockers int
	// header and route of the client's request; session is nil for reads and copies.
	header  wire.Header
	route   any
	session *session
	payload Payload

	// seq is the first of seqs numbers; 0 before it began.
	seq  ident.Seq
	seqs int
	// pending are the targets that do not have it yet; refused those of them that have no space for it; again those to be
	// sent to once more.
	pending, refused, again mask
	// bare says of each Extent a write is in, from the first on, that nothing was written in its range before.
	bare [2]bool
	// sent is when, by the Machine's patience.
	sent time.Duration
	// begun is when a change was given to all, lone when all but one had it: see package pace.
	begun, lone Instant

	// op is the local one in flight.
	op    *Op
	steps steps
	heal  heal
	// mends is how often its range was looked through because it could not be read.
	mends int

	next, previous *operation
	// queued links the queue of those to begin, and free ones.
	queued *operation
}

// letGo gives back what is to be written, or was read to be copied.
func (o *operation) letGo() {
	if o.payload != nil {
		o.payload.Release()
		o.payload = nil
	}
}

func (o *operation) changes() bool {
	return o.kind == kindWrite || o.kind == kindDiscard || o.kind == kindZeroes || o.kind == kindHeal
}

func (o *operation) conflicts(p *operation) bool {
	return (o.changes() || p.changes()) &&
		o.offset < p.offset+int64(p.length) && p.offset < o.offset+int64(o.length)
}

// order is all operations of a Primary: its range locks. An operation begins when no earlier one that overlaps is there
// and one of the two changes data. A range of length 0 (a flush) overlaps nothing.
type order struct {
	first, last *operation
	queues      [lanes]queue
	clients     int
	free        *operation
}

// lane is what operations wait for that nothing overlaps; within one, the first goes first.
type lane uint8

const (
	// laneOn is for what has a Seq and goes on with it: it waits for nothing, as others wait for it.
	laneOn lane = iota
	// laneHeal: for a place in Machine.healing.
	laneHeal
	// laneInternal: for room in the window.
	laneInternal
	// laneRead: for leases.
	laneRead
	// laneChange: for leases and room in the window.
	laneChange
)

const lanes = int(laneChange) + 1

func (o *operation) lane() lane {
	switch {
	case o.seq != 0:
		return laneOn
	case o.kind == kindHeal || o.kind == kindScrub:
		return laneHeal
	case o.internal:
		return laneInternal
	case o.kind == kindRead:
		return laneRead
	}
	return laneChange
}

// queue of a lane.
type queue struct{ head, tail *operation }

// get is an unused operation.
func (l *order) get() *operation {
	o := l.free
	if o == nil {
		return &operation{}
	}
	l.free = o.queued
	*o = operation{}
	return o
}

// insert takes an operation behind all others; it is queued as soon as nothing blocks it.
func (l *order) insert(o *operation) {
	o.state = opWaiting
	for p := l.first; p != nil; p = p.next {
		if o.conflicts(p) {
			o.blockers++
		}
	}
	l.link(l.last, o)
	if !o.internal {
		l.clients++
	}
	if o.blockers == 0 {
		l.push(o)
	}
}

// remove ends an operation; those that only waited for it are queued. It must not be in the queue itself.
func (l *order) remove(o *operation) {
	l.unblock(o)
	l.unlink(o)
	o.payload, o.route, o.session = nil, nil, nil
	o.queued, l.free = l.free, o
}

// unblock queues those that only waited for an operation.
func (l *order) unblock(o *operation) {
	for p := o.next; p != nil; p = p.next {
		if !o.conflicts(p) {
			continue
		}
		if p.blockers--; p.blockers == 0 {
			l.push(p)
		}
	}
}

func (l *order) unlink(o *operation) {
	l.cut(o)
	if !o.internal {
		l.clients--
	}
}

// cut is the opposite of link.
func (l *order) cut(o *operation) {
	if o.previous == nil {
		l.first = o.next
	} else {
		o.previous.next = o.next
	}
	if o.next == nil {
		l.last = o.previous
	} else {
		o.next.previous = o.previous
	}
	o.next, o.previous = nil, nil
}

// behind puts a read that has begun behind another operation, which it is to wait for, and both behind all others.
func (l *order) behind(o, first *operation) {
	l.unblock(o)
	l.unlink(o)
	l.insert(first)
	l.insert(o)
}

// ahead puts an operation before one that has a Seq and is to wait for it. All others that overlap and have not begun
// wait for it too: they may need room in the window, and there may be none before that Seq is done.
func (l *order) ahead(o, first *operation) {
	var begun, next *operation
	for p := l.first; p != nil; p = next {
		next = p.next
		switch {
		case !p.conflicts(first):
		case p != o && (p.state == opRunning || p.state == opCopying):
			first.blockers++
			l.cut(p)
			if l.link(nil, p); begun == nil {
				begun = p
			}
		default:
			l.unqueue(p)
			p.state = opWaiting
			p.blockers++
		}
	}
	first.state = opWaiting
	l.link(begun, first)
	if first.blockers == 0 {
		l.push(first)
	}
}

// link puts an operation behind another one, or, without one, in front of all.
func (l *order) link(before, o *operation) {
	o.previous = before
	if before == nil {
		o.next, l.first = l.first, o
	} else {
		o.next, before.next = before.next, o
	}
	if o.next == nil {
		l.last = o
	} else {
		o.next.previous = o
	}
}

// push queues an operation to begin.
func (l *order) push(o *operation) {
	o.state, o.queued = opQueued, nil
	q := &l.queues[o.lane()]
	if q.tail == nil {
		q.head = o
	} else {
		q.tail.queued = o
	}
	q.tail = o
}

// unqueue takes an operation out of its queue, if it is in one.
func (l *order) unqueue(o *operation) {
	if o.state != opQueued {
		return
	}
	q := &l.queues[o.lane()]
	var before *operation
	for p := q.head; p != o; p = p.queued {
		before = p
	}
	if before == nil {
		q.pop()
		return
	}
	if before.queued = o.queued; o.queued == nil {
		q.tail = before
	}
	o.queued = nil
}

func (q *queue) pop() {
	o := q.head
	if q.head = o.queued; q.head == nil {
		q.tail = nil
	}
	o.queued = nil
}
