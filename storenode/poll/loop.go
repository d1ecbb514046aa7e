package poll

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/invariant"
)

// loop waits for some descriptors.
type loop struct {
	fd int
	// used descriptors; under loops.mu.
	used int

	// mu guards sources and free.
	mu sync.Mutex
	// sources by slot; free slots.
	sources []*Source
	free    []int32

	// These belong to the loop's goroutine.
	again   []*Source
	scratch []byte
	events  [roundSize]unix.EpollEvent
	round   [roundSize]*Source
	waits   waits
	// ended: the last descriptor has left, and nobody can join any more.
	ended bool
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &loop{fd: fd}, nil
}

// join is under loops.mu.
func (l *loop) join(fd int, h Handler) (*Source, error) {
	s := &Source{loop: l, fd: fd, handler: h, want: Readable}
	l.mu.Lock()
	if n := len(l.free); n > 0 {
		s.slot, l.free = l.free[n-1], l.free[:n-1]
		l.sources[s.slot] = s
	} else {
		s.slot = int32(len(l.sources))
		l.sources = append(l.sources, s)
	}
	l.mu.Unlock()
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, s.event()); err != nil {
		l.vacate(s)
		return nil, err
	}
	if l.used++; l.used == 1 {
		go l.run()
	}
	return s, nil
}

func (l *loop) vacate(s *Source) {
	l.mu.Lock()
	l.sources[s.slot] = nil
	l.free = append(l.free, s.slot)
	l.mu.Unlock()
}

// leave is called on the loop.
func (l *loop) leave(s *Source) {
	if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, s.fd, nil); err != nil {
		invariant.Check(false, "epoll refuses a descriptor's end: %v", err)
	}
	l.vacate(s)
	loops.mu.Lock()
	l.used--
	l.ended = l.endIfEmpty()
	loops.mu.Unlock()
}

// endIfEmpty takes a loop without descriptors off the list; under loops.mu.
func (l *loop) endIfEmpty() bool {
	if l.used > 0 {
		return false
	}
	for i, x := range loops.all {
		if x == l {
			loops.all = append(loops.all[:i], loops.all[i+1:]...)
			break
		}
	}
	return true
}

// run goes around until the last descriptor has left.
func (l *loop) run() {
	for !l.ended {
		n := l.wait()
		l.mu.Lock()
		for i := range n {
			l.round[i] = l.sources[l.events[i].Fd]
		}
		l.mu.Unlock()
		for i, s := range l.round[:n] {
			l.round[i] = nil
			if s != nil && !s.left {
				s.handler.Ready(Events(l.events[i].Events))
			}
		}
		l.repeat()
	}
	_ = unix.Close(l.fd)
}

// repeat calls those that asked for it, once each.
func (l *loop) repeat() {
	for range l.again {
		s := l.again[0]
		l.again = append(l.again[:0], l.again[1:]...)
		s.again = false
		if !s.left {
			s.handler.Ready(0)
		}
	}
}

// wait waits until a descriptor is ready, or the pause of those that asked for one is over.
func (l *loop) wait() int {
	began := now()
	n := 0
	if l.waits.beginWithLooking() {
		n = l.look(began)
	}
	if n == 0 {
		n = l.sleep()
	}
	l.waits.add(now().Sub(began))
	return n
}

// now is by the real clock, which is the descriptors'.
func now() time.Time { return time.Now() } //nolint:forbidigo // see above

// look asks for what is ready again and again, and lets other threads run in between.
func (l *loop) look(began time.Time) int {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])),
			roundSize, 0, 0, 0)
		switch {
		case errno != 0:
			return 0 // sleep tells why
		case n > 0:
			return int(n)
		case now().Sub(began) > brief:
			return 0
		}
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

func (l *loop) sleep() int {
	timeout := uintptr(1<<64 - 1)
	if len(l.again) > 0 {
		timeout = uintptr(pause / time.Millisecond)
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])),
			roundSize, timeout, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case unix.EINTR:
		default:
			invariant.Check(false, "epoll refuses to wait: %v", errno)
		}
	}
}
