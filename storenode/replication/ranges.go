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
	// opCopying its range in steps; for a write: one that failed for lack of space and is being undone.
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
	// pending are the targets that do not have it yet; refused those that had no space; again those to be sent to once
	// more.
	pending, refused, again mask
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

func (o *operation) changes() bool {
	return o.kind == kindWrite || o.kind == kindDiscard || o.kind == kindZeroes || o.kind == kindHeal
}

func (o *operation) conflicts(p *operation) bool {
	return (o.changes() || p.changes()) &&
		o.offset < p.offset+int64(p.length) && p.offset < o.offset+int64(o.length)
}

// order is all operations of a Primary, oldest first: its range locks. An operation begins when no earlier one that
// overlaps is there and one of the two changes data. A range of length 0 (a flush) overlaps nothing.
type order struct {
	first, last *operation
	// head and tail of the queue of those that may begin.
	head, tail *operation
	clients    int
	free       *operation
}

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
	o.previous = l.last
	if l.last == nil {
		l.first = o
	} else {
		l.last.next = o
	}
	l.last = o
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
	if !o.internal {
		l.clients--
	}
	o.next, o.previous = nil, nil
}

// behind puts an operation that has begun behind another one, which it is to wait for, and both behind all others.
func (l *order) behind(o, first *operation) {
	l.unblock(o)
	l.unlink(o)
	l.insert(first)
	l.insert(o)
}

// push queues an operation to begin. One that needs no room in the window does not wait behind those that do: they may
// wait for it.
func (l *order) push(o *operation) {
	o.state, o.queued = opQueued, nil
	if l.head != nil && (o.kind == kindHeal || o.kind == kindScrub || o.seq != 0) {
		o.queued, l.head = l.head, o
		return
	}
	if l.tail == nil {
		l.head = o
	} else {
		l.tail.queued = o
	}
	l.tail = o
}

// unqueue takes an operation out of the queue, if it is there.
func (l *order) unqueue(o *operation) {
	if o.state != opQueued {
		return
	}
	var before *operation
	for p := l.head; p != o; p = p.queued {
		before = p
	}
	if before == nil {
		l.pop()
		return
	}
	if before.queued = o.queued; o.queued == nil {
		l.tail = before
	}
	o.queued = nil
}

func (l *order) pop() {
	o := l.head
	if l.head = o.queued; l.head == nil {
		l.tail = nil
	}
	o.queued = nil
}
