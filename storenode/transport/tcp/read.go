package tcp

import (
	"fmt"
	"io"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/poll"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// bulkPayload is a payload that is not worth to be copied, in bytes.
	bulkPayload = 64 << 10
	// firstPayload bounds that of the first frame, whose sender is unknown.
	firstPayload = 16 << 10
	// turnIn is how much is taken off one connection before it is handed on and others have theirs, in bytes: with more,
	// large writes wait for each other.
	turnIn = 128 << 10
)

// reader takes frames off a connection, as they come.
type reader struct {
	c *conn
	// buf[start:end] has arrived and is not handed on. buf is the loop's, for one turn; what is left at its end is kept in
	// rest, which is less than a header as a rule.
	buf        []byte
	start, end int
	rest       []byte
	// frame is the one whose payload is to come: payload[:have] is there, or nothing while the Pool has no memory for it.
	frame   transport.Frame
	headed  bool
	payload *buffer.Buffer
	have    int
	// bulk: the last payload was large, so the next may be: only its header is read into buf, and the payload to where
	// it belongs.
	bulk bool
	// owed: the peer owes the rest of a frame.
	owed bool
	// starved: the Pool had no memory, so that nothing is read. Others may look.
	starved atomic.Bool
	// busy: frames were handed on since the last idle.
	busy  bool
	first bool
	// vectors of a read.
	vectors [2]unix.Iovec
}

// newReader has room for what is left between two turns.
func newReader(c *conn) reader {
	return reader{c: c, rest: make([]byte, 0, wire.HeaderSize), first: true}
}

// run hands on what there is, and says why the connection ends. A peer that hung up is not waited for.
func (r *reader) run(hung bool) error {
	if r.starved.Load() && !hung && !r.allocate() {
		r.c.source.Again()
		return nil
	}
	r.buf = r.c.source.Scratch()
	r.start, r.end = 0, copy(r.buf, r.rest)
	err := r.turn(hung)
	if n := r.end - r.start; n <= wire.HeaderSize && cap(r.rest) > wire.HeaderSize {
		r.rest = make([]byte, 0, wire.HeaderSize) // it was larger for what came before the Pool had no memory
	}
	r.rest = append(r.rest[:0], r.buf[r.start:r.end]...)
	r.buf = nil
	return err
}

func (r *reader) turn(hung bool) error {
	for taken := 0; ; {
		if err := r.parse(); err != nil {
			return err
		}
		if r.starve(hung) {
			if hung {
				return r.failed(unix.ECONNRESET)
			}
			return nil
		}
		if taken >= turnIn {
			r.owe()
			return nil
		}
		n, more, err := r.receive()
		if err != nil {
			return err
		}
		if taken += n; !more {
			taken = turnIn
		}
	}
}

// starve waits for the Pool, and the peer waits with it.
func (r *reader) starve(hung bool) bool {
	wants := r.headed && r.payload == nil
	switch {
	case wants && !hung:
		r.c.source.Want(0, poll.Readable)
		r.c.source.Again()
	case !wants && r.starved.Load():
		r.c.source.Want(poll.Readable, 0)
	}
	if wants != r.starved.Load() {
		r.starved.Store(wants)
	}
	return wants
}

// parse hands on every frame that is complete.
func (r *reader) parse() error {
	for {
		if !r.headed {
			if r.end-r.start < wire.HeaderSize {
				return nil
			}
			if err := r.header(); err != nil {
				return err
			}
		}
		if r.frame.PayloadLength > 0 {
			if whole, err := r.gather(); !whole || err != nil {
				return err
			}
		}
		if err := r.deliver(); err != nil {
			return err
		}
	}
}

// header takes one off buf.
func (r *reader) header() error {
	f := &r.frame
	f.Payload = nil
	if err := f.Decode(r.buf[r.start:r.end]); err != nil {
		return err
	}
	if f.PayloadLength == 0 && f.PayloadCRC != 0 {
		return fmt.Errorf("%w: checksum of no payload", wire.ErrMalformed)
	}
	if r.first && f.PayloadLength > firstPayload {
		return fmt.Errorf("%w: first frame has %d bytes", wire.ErrMalformed, f.PayloadLength)
	}
	r.start += wire.HeaderSize
	r.headed = true
	r.bulk = f.PayloadLength >= bulkPayload
	return nil
}

// gather brings what has arrived of the payload to where it belongs, and reports whether that is all.
func (r *reader) gather() (whole bool, err error) {
	if !r.allocate() {
		return false, nil
	}
	part := copy(r.payload.Bytes()[r.have:], r.buf[r.start:r.end])
	r.have += part
	r.start += part
	if r.have < r.payload.Len() {
		return false, nil
	}
	if sum(r.payload) != r.frame.PayloadCRC {
		return false, fmt.Errorf("%w: payload checksum differs", wire.ErrMalformed)
	}
	return true, nil
}

// allocate has memory for the payload, if the Pool has.
func (r *reader) allocate() bool {
	if r.payload == nil {
		r.payload, r.have = r.c.options.Pool.Get(int(r.frame.PayloadLength)), 0
	}
	return r.payload != nil
}

// deliver hands the frame on.
func (r *reader) deliver() error {
	r.frame.Payload, r.payload, r.headed = r.payload, nil, false
	if r.first {
		r.first = false
		r.c.greet()
	}
	r.busy = true
	r.c.options.Metrics.FramesIn.Add(1)
	return r.c.handler.Frame(r.c, &r.frame)
}

// sum is the checksum of what was received. Whole Blocks are summed one by one, for the Store and the next hop.
func sum(b *buffer.Buffer) uint32 {
	if b.Len()%ident.BlockSize != 0 {
		return wire.CRC(b.Bytes())
	}
	checksum.Blocks(b.Bytes(), b.SumsRoom())
	b.SetSums()
	return checksum.Payload(b.Sums())
}

// receive reads once; without more, the socket was empty then.
func (r *reader) receive() (n int, more bool, err error) {
	vectors, asked := r.room()
	for {
		got, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(r.c.fd), uintptr(unsafe.Pointer(&vectors[0])),
			uintptr(len(vectors)))
		if errno == unix.EINTR {
			continue
		}
		switch {
		case errno == unix.EAGAIN:
			return 0, false, nil
		case errno != 0:
			return 0, false, r.failed(errno)
		case got == 0:
			return 0, false, r.ended()
		}
		n = int(got)
		break
	}
	r.c.received.Add(int64(n))
	r.c.options.Metrics.BytesIn.Add(int64(n))
	if r.payload != nil {
		part := min(n, r.payload.Len()-r.have)
		r.have += part
		r.end += n - part
	} else {
		r.end += n
	}
	return n, n == asked, nil
}

// room is where to read: the rest of a payload, and then, or at once, what follows.
func (r *reader) room() (vectors []unix.Iovec, asked int) {
	r.end = copy(r.buf, r.buf[r.start:r.end])
	r.start = 0
	rest := r.buf[r.end:]
	if r.bulk {
		rest = rest[:wire.HeaderSize-r.end]
	}
	vectors = r.vectors[1:]
	if r.payload != nil {
		missing := r.payload.Bytes()[r.have:]
		vectors = r.vectors[:]
		vectors[0].Base = &missing[0]
		vectors[0].SetLen(len(missing))
		asked = len(missing)
	}
	last := &vectors[len(vectors)-1]
	last.Base = &rest[0]
	last.SetLen(len(rest))
	return vectors, asked + len(rest)
}

// owe notes at the end of a turn whether the peer owes the rest of a frame.
func (r *reader) owe() {
	owes := r.within()
	if owes == r.owed {
		return
	}
	r.owed = owes
	r.c.partial.Store(owes)
	if owes {
		r.c.mu.Lock()
		r.c.watchLocked()
		r.c.mu.Unlock()
	}
}

// within reports whether a frame has come in part.
func (r *reader) within() bool { return r.headed || r.end > r.start }

func (r *reader) ended() error {
	if r.within() {
		return fmt.Errorf("%w: connection ended within a frame", wire.ErrMalformed)
	}
	return fmt.Errorf("receive from %s: %w", r.c.remote, io.EOF)
}

func (r *reader) failed(errno unix.Errno) error {
	return fmt.Errorf("receive from %s: %w", r.c.remote, errno)
}

func (r *reader) idle() {
	if r.busy {
		r.busy = false
		r.c.handler.Idle(r.c)
	}
}

// drop gives the memory of a frame back that will never be whole.
func (r *reader) drop() {
	if r.payload != nil {
		r.payload.Release()
		r.payload = nil
	}
}
