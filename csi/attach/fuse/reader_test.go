package fuse

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/csi/attach/memory"
)

// lines passes on what is logged.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// newReader is a reader of an Export that is not mounted.
func newReader(t *testing.T, log *slog.Logger) *reader {
	t.Helper()
	m, err := memory.New(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	e, err := newExport(Options{Backend: m, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return &reader{export: e}
}

func TestAReaderEndsOnlyWithItsFileSystem(t *testing.T) {
	r := newReader(t, slog.New(slog.DiscardHandler))
	for errno, want := range map[unix.Errno]bool{
		unix.ENODEV: false, unix.ECONNABORTED: false, unix.EINTR: true, unix.EAGAIN: true, unix.ENOENT: true,
		unix.EFAULT: true, unix.ENOMEM: true,
	} {
		if got := r.goesOn(errno); got != want {
			t.Errorf("after %v it goes on: %v, want %v", errno, got, want)
		}
	}
	r.export.stop()
	if r.goesOn(unix.EFAULT) {
		t.Error("it goes on after the end of its export")
	}
}

func TestAReaderAnswersAfterAReadThatFailed(t *testing.T) {
	logged := make(lines, 100)
	r := newReader(t, slog.New(slog.NewTextHandler(logged, nil)))
	// A directory cannot be read. Then there is a kernel in its place.
	fd, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() { _ = unix.Close(pair[1]) })
	defer end()
	_ = unix.SetsockoptTimeval(pair[1], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	r.blocking, r.nonBlocking = fd, fd
	r.export.running.Add(1)
	go r.run()
	defer func() {
		r.export.running.Wait()
		_ = unix.Close(fd)
	}()
	select {
	case line := <-logged:
		if !strings.Contains(line, "is a directory") {
			t.Errorf("logged %q", line)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing is logged")
	}
	if err := unix.Dup3(pair[0], fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(pair[0])
	if _, err := unix.Write(pair[1], encode(opFsync, 7, nil)); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, outHeaderSize)
	putOutHeader(want, 7, 0, outHeaderSize)
	got := make([]byte, 100)
	if n, err := unix.Read(pair[1], got); err != nil || !bytes.Equal(got[:n], want) {
		t.Errorf("answered %x, %v, want %x", got[:max(n, 0)], err, want)
	}
	// What it reads now is the end of the socket.
	r.export.mu.Lock()
	r.export.ended = true
	r.export.mu.Unlock()
	r.export.stop()
	end()
}
