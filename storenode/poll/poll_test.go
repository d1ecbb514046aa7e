package poll_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/poll"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two ends of a connection that do not block.
func pair(tb testing.TB) (a, b int) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return fds[0], fds[1]
}

// waiter is a Handler of a function.
type waiter struct {
	source *poll.Source
	ready  func(w *waiter, e poll.Events)
	left   chan struct{}
}

func (w *waiter) Ready(e poll.Events) { w.ready(w, e) }

func join(tb testing.TB, fd int, ready func(w *waiter, e poll.Events)) *waiter {
	tb.Helper()
	w := &waiter{ready: ready, left: make(chan struct{})}
	joined := make(chan struct{})
	first := ready
	w.ready = func(w *waiter, e poll.Events) {
		<-joined // source is set
		w.ready = first
		first(w, e)
	}
	var err error
	if w.source, err = poll.Join(fd, w); err != nil {
		tb.Fatal(err)
	}
	close(joined)
	tb.Cleanup(func() {
		<-w.left
		_ = unix.Close(fd)
	})
	return w
}

func (w *waiter) leave() {
	w.source.Leave()
	close(w.left)
}

// echo answers what arrives, until the other end closes.
func echo(fd int) func(w *waiter, e poll.Events) {
	return func(w *waiter, _ poll.Events) {
		var b [16]byte
		switch n, err := unix.Read(fd, b[:]); {
		case n > 0:
			_, _ = unix.Write(fd, b[:n])
		case err == nil:
			w.leave()
		}
	}
}

// read waits for what comes. If that fails it closes fd, so that whoever is at the other end leaves.
func read(tb testing.TB, fd int) string {
	tb.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err := unix.Poll(p, 5000)
	for errors.Is(err, unix.EINTR) { // the runtime interrupts threads now and then
		_, err = unix.Poll(p, 5000)
	}
	var b [16]byte
	n := 0
	if err == nil {
		n, err = unix.Read(fd, b[:])
	}
	if err != nil {
		_ = unix.Close(fd)
		tb.Fatal(err)
	}
	return string(b[:n])
}

func TestManyDescriptorsAreServedAndLeaveOneByOne(t *testing.T) {
	const pairs, rounds = 150, 3 // more than one round of a loop takes
	ends := make([]int, pairs)
	for i := range ends {
		a, b := pair(t)
		ends[i] = b
		join(t, a, echo(a))
	}
	for range rounds {
		for _, fd := range ends {
			if _, err := unix.Write(fd, []byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		for _, fd := range ends {
			if got := read(t, fd); got != "hello" {
				t.Errorf("got %q", got)
			}
		}
	}
	for _, fd := range ends {
		_ = unix.Close(fd)
	}
}

func TestReadyIsToldForWhatIsWanted(t *testing.T) {
	a, b := pair(t)
	told := make(chan poll.Events)
	w := join(t, a, func(w *waiter, e poll.Events) {
		if e&poll.Hung != 0 {
			w.leave()
			return
		}
		w.source.Want(0, e)
		told <- e
	})
	w.source.Want(poll.Writable, 0)
	if e := <-told; e != poll.Writable {
		t.Errorf("%x is ready, want writable", e)
	}
	if _, err := unix.Write(b, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if e := <-told; e != poll.Readable {
		t.Errorf("%x is ready, want readable", e)
	}
	_ = unix.Close(b) // told as Hung, though nothing is wanted
}

func TestAgainCallsWithoutAnEvent(t *testing.T) {
	a, b := pair(t)
	t.Cleanup(func() { _ = unix.Close(b) })
	var calls atomic.Int32
	join(t, a, func(w *waiter, e poll.Events) {
		w.source.Want(0, poll.Readable)
		switch n := calls.Add(1); {
		case n > 1 && e != 0:
			t.Errorf("%x is ready, and was not asked for", e)
			w.leave()
		case n == 5:
			w.leave()
		default:
			w.source.Again()
			w.source.Again() // once is enough
		}
	})
	if _, err := unix.Write(b, []byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestADescriptorThatCannotBeWaitedForIsRefused(t *testing.T) {
	if _, err := poll.Join(-1, &waiter{}); err == nil {
		t.Error("joined")
	}
	a, b := pair(t)
	join(t, a, echo(a)) // a loop begins again
	_ = unix.Close(b)
}
