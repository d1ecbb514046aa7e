package poll

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/invariant"
)

const (
	// loopShare is how many processors share a loop.
	loopShare = 4
	// pause is how long Again waits at most.
	pause = time.Millisecond
	// scratchSize is that of Scratch, in bytes: what one read of a socket may take.
	scratchSize = 256 << 10
	// roundSize bounds the descriptors of a round.
	roundSize = 64
)

// Events are what a descriptor is ready for, or may be waited for.
type Events uint32

// The Events. Hung is told without being asked for: an error, or the end of both directions.
const (
	Readable Events = unix.EPOLLIN
	Writable Events = unix.EPOLLOUT
	Hung     Events = unix.EPOLLHUP | unix.EPOLLERR
)

// Handler is told that its descriptor is ready, again and again as long as it is.
type Handler interface {
	// Ready tells for what; 0 after Again.
	Ready(e Events)
}

// Source is a descriptor that a loop waits for.
type Source struct {
	loop    *loop
	fd      int
	slot    int32
	handler Handler
	// again and left belong to the loop: Ready is wanted without an event; no Ready is wanted any more.
	again, left bool

	// mu guards what follows.
	mu   sync.Mutex
	want Events
	gone bool
}

// loops are those of the process.
var loops struct {
	mu  sync.Mutex
	all []*loop
}

// Join has a loop wait until fd is Readable. fd must not block, and stays open until Leave.
func Join(fd int, h Handler) (*Source, error) {
	loops.mu.Lock()
	defer loops.mu.Unlock()
	l, err := pick()
	if err != nil {
		return nil, fmt.Errorf("make a poller: %w", err)
	}
	s, err := l.join(fd, h)
	if err != nil {
		if l.endIfEmpty() {
			_ = unix.Close(l.fd)
		}
		return nil, fmt.Errorf("poll: %w", err)
	}
	return s, nil
}

// pick gives the loop with the fewest descriptors, or a new one.
func pick() (*loop, error) {
	if len(loops.all) < max(1, runtime.GOMAXPROCS(0)/loopShare) {
		l, err := newLoop()
		if err != nil {
			return nil, err
		}
		loops.all = append(loops.all, l)
		return l, nil
	}
	least := loops.all[0]
	for _, l := range loops.all {
		if l.used < least.used {
			least = l
		}
	}
	return least, nil
}

// Want adds to what is waited for, and takes from it.
func (s *Source) Want(add, remove Events) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := (s.want | add) &^ remove
	if s.gone || want == s.want {
		return
	}
	s.want = want
	err := unix.EpollCtl(s.loop.fd, unix.EPOLL_CTL_MOD, s.fd, s.event())
	if err != nil { // not Check alone: its arguments would be allocated each time
		invariant.Check(false, "epoll refuses a change: %v", err)
	}
}

func (s *Source) event() *unix.EpollEvent {
	return &unix.EpollEvent{Events: uint32(s.want), Fd: s.slot}
}

// Again has Ready called after a pause at most, whatever happens.
func (s *Source) Again() {
	if !s.again {
		s.again = true
		s.loop.again = append(s.loop.again, s)
	}
}

// Scratch is memory for the time of one Ready: all that are called by the same loop use it, one after the other.
func (s *Source) Scratch() []byte {
	if s.loop.scratch == nil {
		s.loop.scratch = make([]byte, scratchSize)
	}
	return s.loop.scratch
}

// Leave ends the waiting; the descriptor may be closed.
func (s *Source) Leave() {
	s.left = true
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	s.loop.leave(s)
}
