package client

import (
	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// Op is what a Request asks for.
type Op uint8

// The operations, in the order of the wire's opcodes.
const (
	OpRead Op = iota + 1
	OpWrite
	// OpFlush completes when all changes completed before it survive power loss.
	OpFlush
	OpDiscard
	OpWriteZeroes
)

func (o Op) opcode() wire.Opcode { return wire.OpRead + wire.Opcode(o-OpRead) }

// changes reports whether the operation changes data.
func (o Op) changes() bool { return o == OpWrite || o == OpDiscard || o == OpWriteZeroes }

// Completer is told of the end of a Request. It must not block.
type Completer interface {
	RequestDone(r *Request)
}

// Request is one operation on a Volume. It belongs to the Volume from Submit until RequestDone, and may be used again
// after that; the zero Request is ready for use.
type Request struct {
	Op Op
	// FUA asks that the write survive power loss before it completes.
	FUA bool
	// Offset and Length in bytes, multiples of ident.BlockSize; both 0 for OpFlush.
	Offset int64
	Length int
	// Buffer, from Volume.Buffer, holds the bytes to write or takes those read; nil for other operations. For OpRead the
	// Volume may put another in its place, which is the caller's then as the first was; it releases that.
	Buffer *buffer.Buffer
	Done   Completer
	// Err is the outcome.
	Err error

	// left counts the parts without an outcome.
	left int
	// first serves the first part, so that most Requests need no other.
	first part
	// next in Volume.finished.
	next *Request
}

// part is what one Shard has to do for a Request.
type part struct {
	request *Request
	shard   *shard
	// id is the number within (session, Shard); 0 while the part waits in the Shard's queue.
	id ident.RequestID
	// offset in the Shard, at is where the part begins in the Request, both in bytes.
	offset uint64
	at     int
	length int
	// copied is the payload of a part that is not the whole Request.
	copied *buffer.Buffer
	// link is the living connection it was sent by; nil means it is to be sent. epoch is of the Record it was sent by.
	link  *link
	epoch ident.Epoch
	// sent is the tick of that, 0 before the first; retry the tick before which it is not sent again.
	sent, retry int64
	// pause was the last one after a refusal, in ticks; it grows. refused is the tick of the first answer that too few
	// Replicas are in sync, 0 before and after the loss of a copy.
	pause, refused int64
	// mark is Shard.written when a flush began.
	mark uint64
	// next in the Shard's queue or the free list.
	next *part
}

// partList is a queue.
type partList struct{ head, tail *part }

func (l *partList) push(p *part) {
	p.next = nil
	if l.tail == nil {
		l.head = p
	} else {
		l.tail.next = p
	}
	l.tail = p
}

func (l *partList) pop() *part {
	p := l.head
	if p == nil {
		return nil
	}
	if l.head = p.next; l.head == nil {
		l.tail = nil
	}
	p.next = nil
	return p
}

// requestList is a queue.
type requestList struct{ head, tail *Request }

func (l *requestList) push(r *Request) {
	r.next = nil
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
}
