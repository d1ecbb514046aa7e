package fuse

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/csi/attach"
)

// reader takes requests from the kernel and starts them. All its fields belong to its goroutine.
type reader struct {
	export      *Export
	blocking    int
	nonBlocking int

	// head and landing are where the kernel puts a request: headers, then payload.
	head    [headSize]byte
	landing attach.Buffer
	iov     [2]unix.Iovec
	// failures are the reads that failed for no known reason.
	failures uint
	// out is where short answers are made.
	out [outHeaderSize + entryOutSize]byte
}

// run reads until the file system is unmounted.
func (r *reader) run() {
	defer r.export.running.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Written so that its page is there: see land.
	clear(r.head[:])
	defer func() {
		if r.landing != nil {
			r.landing.Release()
		}
	}()
	for r.batch() {
	}
}

// batch waits for one request and takes those which wait behind it. It reports whether there is more to come.
func (r *reader) batch() bool {
	more, got := r.take(true)
	for n := 1; more && got && n < batchLimit; n++ {
		more, got = r.take(false)
	}
	r.export.backend.Kick()
	return more
}

// take reads one request and starts it, waiting for it if asked to. more is false when the file system has ended, got
// when there was none.
func (r *reader) take(wait bool) (more, got bool) {
	fd := r.nonBlocking
	if wait {
		fd = r.blocking
	}
	if r.landing == nil && !r.land() {
		return false, false
	}
	s := r.export.pop(wait)
	if s == nil {
		return !r.export.hasEnded(), false
	}
	n, errno := r.read(fd)
	if errno != 0 {
		r.export.push(s)
		return r.goesOn(errno), false
	}
	m, err := decode(&r.head, r.landing.Bytes()[:maxIO], n)
	if err != nil {
		r.export.push(s)
		r.refuse(fd, m, n)
		return true, true
	}
	if !r.start(s, fd, m) {
		r.export.push(s)
		r.answer(fd, m)
	}
	return true, true
}

// land gets a landing buffer; false when the Export ends. Its pages are there before a request is: the kernel fails a
// request with EIO when the reader is killed while a page of its memory is being made.
func (r *reader) land() bool {
	if r.landing = r.export.buffer(maxIO); r.landing == nil {
		return false
	}
	// A kernel that cannot do this (before 5.14) cannot send again either.
	_ = unix.Madvise(r.landing.Bytes()[:maxIO], unix.MADV_POPULATE_WRITE)
	return true
}

// hasEnded reports whether Close was called.
func (e *Export) hasEnded() bool { return e.ctx.Err() != nil }

// goesOn says whether reading does after errno. Only the end of the file system ends it: without a reader its I/O would
// wait for ever. Some failures (EFAULT, ENOMEM) cost the one request that the kernel then ends by itself.
func (r *reader) goesOn(errno unix.Errno) bool {
	switch {
	case r.export.hasEnded(), errors.Is(errno, unix.ENODEV), errors.Is(errno, unix.ECONNABORTED):
		return false
	case errors.Is(errno, unix.EINTR), errors.Is(errno, unix.EAGAIN), errors.Is(errno, unix.ENOENT):
		// The kernel may take a request back while it is read (ENOENT).
		return true
	}
	// Told ever more seldom: at failures 1, 2, 4, 8 and so on.
	if r.failures++; r.failures&(r.failures-1) == 0 {
		r.export.log.Error("Cannot read FUSE request", "failures", r.failures, "cause", errno)
	}
	pause, cancel := context.WithTimeout(r.export.ctx, readPause)
	defer cancel()
	<-pause.Done()
	return true
}

// read is one readv of a request.
func (r *reader) read(fd int) (int, unix.Errno) {
	r.iov[0].Base = &r.head[0]
	r.iov[0].SetLen(headSize)
	r.iov[1].Base = &r.landing.Bytes()[0]
	r.iov[1].SetLen(maxIO)
	n, _, errno := unix.Syscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&r.iov[0])), 2)
	return int(n), errno
}

// start gives data requests to the Backend and reports whether m was one that it could start; a refusal is left to
// answer.
func (r *reader) start(s *slot, fd int, m message) bool {
	s.op, s.unique, s.fd = m.op, m.unique, fd
	s.request.FUA, s.request.Buffer, s.remaining = false, nil, 0
	s.request.Offset, s.request.Length = 0, 0
	switch m.op {
	case opRead, opWrite:
		return r.startIO(s, m)
	case opFallocate:
		return r.startFallocate(s, m)
	case opFsync:
		s.request.Op = attach.OpFlush
		s.submit()
		return true
	case opLookup, opForget, opGetattr, opSetattr, opOpen, opStatfs, opRelease, opFlush, opInit, opAccess,
		opInterrupt, opDestroy, opBatchForget:
	}
	return false
}

func (r *reader) startIO(s *slot, m message) bool {
	if !r.export.fits(m) || m.length > maxIO {
		return false
	}
	s.request.Offset, s.request.Length = int64(m.offset), int(m.length)
	s.request.Op = attach.OpRead
	if m.op == opWrite {
		s.request.Op = attach.OpWrite
	}
	if m.op == opWrite && m.length > copyLimit {
		s.request.Buffer, r.landing = r.landing, nil
		s.submit()
		return true
	}
	b := r.export.buffer(int(m.length))
	if b == nil {
		return false
	}
	if m.op == opWrite {
		copy(b.Bytes(), r.landing.Bytes()[:m.length])
	}
	s.request.Buffer = b
	s.submit()
	return true
}

func (r *reader) startFallocate(s *slot, m message) bool {
	switch m.mode {
	case fallocPunchHole | fallocKeepSize:
		s.request.Op = attach.OpDiscard
	case fallocZeroRange, fallocZeroRange | fallocKeepSize:
		s.request.Op = attach.OpWriteZeroes
	default:
		return false
	}
	if !r.export.fits(m) {
		return false
	}
	s.request.Offset, s.remaining = int64(m.offset), int64(m.length)
	s.submitSpan()
	return true
}

// fits says whether a data request is for the file, aligned and within it.
func (e *Export) fits(m message) bool {
	return m.node == volumeNode && m.length > 0 && (m.offset|m.length)%blockSize == 0 &&
		m.offset < uint64(e.size) && m.length <= uint64(e.size)-m.offset
}

// answer is for requests that need no Backend, and for those that could not be started.
func (r *reader) answer(fd int, m message) {
	switch m.op {
	case opForget, opBatchForget, opInterrupt:
		// The kernel expects no answer. What an INTERRUPT is for completes soon anyway.
	case opInit:
		if m.major != protocolMajor || m.minor < protocolMinorMin {
			r.export.log.Error("Kernel speaks another FUSE protocol", "major", m.major, "minor", m.minor)
			r.reply(fd, m, unix.EPROTO, 0)
			return
		}
		r.export.resends.Store(m.flags2&initHasResend != 0)
		putInit(r.body(initOutSize), m)
		r.reply(fd, m, 0, initOutSize)
	case opLookup:
		if m.node != rootNode || !m.isVolume {
			r.reply(fd, m, unix.ENOENT, 0)
			return
		}
		putEntry(r.body(entryOutSize), r.export.size)
		r.reply(fd, m, 0, entryOutSize)
	case opGetattr:
		putAttrOut(r.body(attrOutSize), m.node, r.export.size)
		r.reply(fd, m, 0, attrOutSize)
	case opOpen:
		binary.LittleEndian.PutUint32(r.body(openOutSize)[8:], openDirectIO|openParallelDirectWrites)
		r.reply(fd, m, 0, openOutSize)
	case opStatfs:
		putStatfs(r.body(statfsOutSize), r.export.size)
		r.reply(fd, m, 0, statfsOutSize)
	case opRelease, opFlush, opAccess, opDestroy:
		r.reply(fd, m, 0, 0)
	case opSetattr:
		r.reply(fd, m, unix.EPERM, 0)
	case opRead, opWrite, opFsync:
		r.reply(fd, m, unix.EINVAL, 0)
	case opFallocate:
		r.reply(fd, m, r.fallocateError(m), 0)
	default:
		r.reply(fd, m, unix.ENOSYS, 0)
	}
}

// fallocateError tells a mode that is never possible from a range that is wrong: after the first the kernel stops
// trying.
func (r *reader) fallocateError(m message) unix.Errno {
	if m.mode&^(fallocKeepSize|fallocPunchHole|fallocZeroRange) != 0 || r.export.fits(m) {
		return unix.EOPNOTSUPP
	}
	return unix.EINVAL
}

// refuse answers what could not be decoded, if it has so much as a header.
func (r *reader) refuse(fd int, m message, n int) {
	r.export.log.Error("Malformed FUSE request", "opcode", m.op, "bytes", n)
	if n >= inHeaderSize && m.unique != 0 {
		r.reply(fd, m, unix.EINVAL, 0)
	}
}

// body is n zeroed bytes for an answer.
func (r *reader) body(n int) []byte {
	b := r.out[outHeaderSize : outHeaderSize+n]
	clear(b)
	return b
}

// reply sends the first n bytes of the body, or errno.
func (r *reader) reply(fd int, m message, errno unix.Errno, n int) {
	putOutHeader(r.out[:], m.unique, int32(errno), outHeaderSize+n)
	// ENOENT: the caller was killed meanwhile; ENODEV: unmounted. Nobody waits for the answer then.
	_, _ = unix.Write(fd, r.out[:outHeaderSize+n])
}
