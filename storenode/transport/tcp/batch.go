package tcp

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// maxVectors bounds the pieces of one system call; the kernel takes 1024.
const maxVectors = 512

// piece is a frame on its way: its header at a place of batch.headers, and its payload.
type piece struct {
	payload *buffer.Buffer
	length  int
}

// batch is frames that are sent together. Headers lie in one slice and payloads are referenced, never copied.
type batch struct {
	headers []byte
	pieces  []piece
	bytes   int
	// next is the first piece that is not wholly sent, skip how many of its bytes are.
	next, skip int
	vectors    [maxVectors]unix.Iovec
}

func (b *batch) empty() bool { return b.next == len(b.pieces) }

func (b *batch) add(f *transport.Frame) {
	at := len(b.headers)
	if cap(b.headers)-at < wire.HeaderSize {
		grown := make([]byte, at, 2*cap(b.headers)+64*wire.HeaderSize)
		copy(grown, b.headers)
		b.headers = grown
	}
	b.headers = b.headers[:at+wire.HeaderSize]
	f.Encode(b.headers[at:])
	b.pieces = append(b.pieces, piece{payload: f.Payload, length: wire.HeaderSize + int(f.PayloadLength)})
	b.bytes += wire.HeaderSize + int(f.PayloadLength)
}

// send sends what the socket takes, until that is most bytes or somewhat more. full says that it takes no more now.
func (b *batch) send(fd, most int, sent *atomic.Int64, m *Metrics) (all int, full bool, err error) {
	for !b.empty() && all < most {
		n, errno := sendVectors(fd, b.fill())
		switch errno {
		case 0:
			all += n
			sent.Add(int64(n))
			m.BytesOut.Add(int64(n))
			m.FramesOut.Add(int64(b.advance(n)))
		case unix.EINTR:
		case unix.EAGAIN:
			return all, true, nil
		default:
			return all, false, errno
		}
	}
	if b.empty() {
		b.reset()
	}
	return all, false, nil
}

// fill points vectors at what is to be sent next.
func (b *batch) fill() []unix.Iovec {
	n, skip := 0, b.skip
	point := func(from []byte) {
		if skip >= len(from) {
			skip -= len(from)
			return
		}
		b.vectors[n].Base = &from[skip]
		b.vectors[n].SetLen(len(from) - skip)
		skip = 0
		n++
	}
	for i := b.next; i < len(b.pieces) && n+2 <= maxVectors; i++ {
		point(b.headers[i*wire.HeaderSize : (i+1)*wire.HeaderSize])
		if p := b.pieces[i].payload; p != nil {
			point(p.Bytes()[:b.pieces[i].length-wire.HeaderSize]) // as long as it was when it was added
		}
	}
	return b.vectors[:n]
}

// advance counts n bytes as sent and returns how many frames that ended.
func (b *batch) advance(n int) (frames int) {
	b.skip += n
	for b.next < len(b.pieces) && b.skip >= b.pieces[b.next].length {
		b.skip -= b.pieces[b.next].length
		b.release(b.next)
		b.next++
		frames++
	}
	return frames
}

func (b *batch) release(i int) {
	if p := b.pieces[i].payload; p != nil {
		p.Release()
		b.pieces[i].payload = nil
	}
}

func (b *batch) reset() {
	b.headers, b.pieces = b.headers[:0], b.pieces[:0]
	b.bytes, b.next, b.skip = 0, 0, 0
}

func (b *batch) drop() {
	for i := b.next; i < len(b.pieces); i++ {
		b.release(i)
	}
	b.reset()
}

// sendVectors is sendmsg without waiting and without a signal.
func sendVectors(fd int, vectors []unix.Iovec) (int, unix.Errno) {
	message := unix.Msghdr{Iov: &vectors[0]}
	message.SetIovlen(len(vectors))
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
