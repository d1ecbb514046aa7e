package fuse

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/csi/attach"
)

// slot is one data request in flight. It belongs to the reader that popped it until it is submitted, then to whoever
// completes the Request, who pushes it back.
type slot struct {
	request attach.Request
	export  *Export
	next    *slot

	op     opcode
	unique uint64
	// fd read the request and takes the answer.
	fd int
	// remaining bytes of a FALLOCATE, of which request is the current piece.
	remaining int64

	out [outHeaderSize + writeOutSize]byte
	iov [2]unix.Iovec
}

func (s *slot) init(e *Export) {
	s.export = e
	s.request.Done = s
}

func (s *slot) submit() {
	s.export.inFlight.Add(1)
	s.request.Err = nil
	s.export.backend.Submit(&s.request)
}

// submitSpan submits the next piece of a FALLOCATE, which may be as long as the file.
func (s *slot) submitSpan() {
	s.request.Length = int(min(s.remaining, attach.MaxSpan))
	s.remaining -= int64(s.request.Length)
	s.submit()
}

// RequestDone answers the kernel and frees the slot.
func (s *slot) RequestDone(r *attach.Request) {
	e := s.export
	if r.Err == nil && s.remaining > 0 {
		r.Offset += int64(r.Length)
		s.submitSpan()
		// No reader knows of this piece, so it is kicked here.
		e.backend.Kick()
		e.inFlight.Add(-1)
		return
	}
	s.answer()
	if r.Buffer != nil {
		r.Buffer.Release()
		r.Buffer = nil
	}
	e.push(s)
	e.inFlight.Add(-1)
}

// answer sends the outcome; as for every answer, the kernel may have lost interest, which is no failure.
func (s *slot) answer() {
	if s.request.Err != nil {
		putOutHeader(s.out[:], s.unique, int32(errnoOf(s.request.Err)), outHeaderSize)
		s.send(outHeaderSize)
		return
	}
	length := s.request.Length
	switch s.op {
	case opRead:
		putOutHeader(s.out[:], s.unique, 0, outHeaderSize+length)
		s.sendWith(s.request.Buffer.Bytes()[:length])
	case opWrite:
		putOutHeader(s.out[:], s.unique, 0, outHeaderSize+writeOutSize)
		binary.LittleEndian.PutUint64(s.out[outHeaderSize:], uint64(length))
		s.send(outHeaderSize + writeOutSize)
	default:
		putOutHeader(s.out[:], s.unique, 0, outHeaderSize)
		s.send(outHeaderSize)
	}
}

func (s *slot) send(n int) {
	_, _ = unix.Write(s.fd, s.out[:n])
}

func (s *slot) sendWith(data []byte) {
	s.iov[0].Base = &s.out[0]
	s.iov[0].SetLen(outHeaderSize)
	s.iov[1].Base = &data[0]
	s.iov[1].SetLen(len(data))
	_, _, _ = unix.Syscall(unix.SYS_WRITEV, uintptr(s.fd), uintptr(unsafe.Pointer(&s.iov[0])), 2)
}

// errnoOf is what the application sees.
func errnoOf(err error) unix.Errno {
	if errors.Is(err, attach.ErrNoSpace) {
		return unix.ENOSPC
	}
	return unix.EIO
}
