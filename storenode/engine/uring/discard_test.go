package uring_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/enginetest"
	"github.com/shale-storage/shale/storenode/engine/uring"
)

// loopDevice makes a block device of a file.
func loopDevice(t *testing.T, size int64) (device, file string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("no loop devices on this machine: %v", err)
	}
	file = sparseFile(t, size)
	return loopOf(t, file), file
}

func loopOf(t *testing.T, file string) (device string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return device
}

// discardsOf is how many discards a block device has done.
func discardsOf(t *testing.T, device string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(text))[11])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestABlockDevicePassesTheSuite(t *testing.T) {
	enginetest.Run(t, func(t *testing.T, m *enginetest.Monitor) engine.Device {
		t.Helper()
		path, _ := loopDevice(t, 16<<20)
		return open(t, path, m)
	})
}

// TestADiscardReachesABlockDevice as a discard, not as zeros to write, and gives the space back.
func TestADiscardReachesABlockDevice(t *testing.T) {
	path, file := loopDevice(t, 16<<20)
	m := &enginetest.Monitor{}
	d := open(t, path, m)
	m.Device = d
	if !d.Info().Discard {
		t.Skip("the file of this loop device takes no discards")
	}
	const mib = 1 << 20
	data := enginetest.Aligned(mib)
	for i := range data {
		data[i] = 0xdb
	}
	for at := range int64(8) {
		enginetest.Do(m, &engine.Request{Op: engine.OpWrite, Offset: at * mib, Buf: data})
	}
	enginetest.Do(m, &engine.Request{Op: engine.OpFlush})
	before, earlier := allocated(t, file), discardsOf(t, path)
	var all []*engine.Request
	for at := range int64(7) {
		all = append(all, &engine.Request{Op: engine.OpDiscard, Offset: at * mib, Length: mib})
	}
	beyond := &engine.Request{Op: engine.OpDiscard, Offset: 15 * mib, Length: 2 * mib}
	enginetest.Do(m, append(all, beyond)...)
	for _, r := range all {
		if r.Err != nil {
			t.Errorf("discard at %d: %v", r.Offset, r.Err)
		}
	}
	if beyond.Err == nil {
		t.Error("discarded what is beyond the end")
	}
	if n := discardsOf(t, path) - earlier; n < len(all) {
		t.Errorf("%d discards arrived", n)
	}
	if after := allocated(t, file); before-after < 6*mib {
		t.Errorf("the file has %d bytes, %d before", after, before)
	}
	got := enginetest.Aligned(mib)
	enginetest.Do(m, &engine.Request{Op: engine.OpRead, Offset: 7 * mib, Buf: got})
	if !bytes.Equal(got, data) {
		t.Error("what was not discarded is gone")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func allocated(t *testing.T, file string) int64 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(file, &s); err != nil {
		t.Fatal(err)
	}
	return s.Blocks * 512
}

// TestCloseWaitsForDiscards: none may land in what the next one to open the Device writes.
func TestCloseWaitsForDiscards(t *testing.T) {
	path, _ := loopDevice(t, 16<<20)
	m := &enginetest.Monitor{}
	d := open(t, path, m)
	m.Device = d
	ended := 0
	m.Enter()
	for range 100 {
		d.Submit(&engine.Request{Op: engine.OpDiscard, Length: 1 << 20, Done: completer(func(*engine.Request) { ended++ })})
	}
	m.Leave()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if ended != 100 {
		t.Errorf("%d of 100 ended", ended)
	}
}

// threads is an Owner that notes on which threads the Device was kicked.
type threads struct {
	enginetest.Monitor
	mu     sync.Mutex
	kicked map[int]bool
}

func (m *threads) Leave() {
	m.mu.Lock()
	m.kicked[unix.Gettid()] = true
	m.mu.Unlock()
	m.Monitor.Leave()
}

// forget what was noted.
func (m *threads) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.kicked)
}

// TestADiscardHasAThreadThatNeverKicks: what a thread has submitted completes on that thread, which is deaf while it
// discards.
func TestADiscardHasAThreadThatNeverKicks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	m := &threads{kicked: map[int]bool{}}
	d, err := uring.Open(sparseFile(t, 1<<20), m)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skipf("this kernel does not allow io_uring: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.Device = d
	discarding := map[int]bool{}
	uring.DiscardBy(d, func(int64, int64) error {
		discarding[unix.Gettid()] = true
		return nil
	})
	w := make(chan struct{})
	for round := range 100 {
		m.Enter()
		for range 3 {
			read := &engine.Request{Op: engine.OpRead, Buf: enginetest.Aligned(4096), Done: completer(func(*engine.Request) {})}
			d.Submit(&engine.Request{Op: engine.OpDiscard, Length: 4096, Done: completer(func(*engine.Request) {
				d.Submit(read)
				go func() { w <- struct{}{} }()
			})})
		}
		m.Leave()
		for range 3 {
			<-w
		}
		if round == 0 { // from now on the thread is its own
			m.forget()
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for thread := range discarding {
		if m.kicked[thread] {
			t.Errorf("thread %d discards and kicks", thread)
		}
	}
	goleak.VerifyNone(t, before)
}

type completer func(*engine.Request)

func (c completer) Complete(r *engine.Request) { c(r) }

// TestABlockDeviceWithoutDiscardsSaysSo when it is opened, and to each discard.
func TestABlockDeviceWithoutDiscardsSaysSo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "ramfs", 0, ""); err != nil { // whose files have no holes
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	m := &enginetest.Monitor{}
	d := open(t, loopOf(t, fileIn(t, dir, 16<<20)), m)
	if m.Device = d; d.Info().Discard {
		t.Error("it is said to take discards")
	}
	r := &engine.Request{Op: engine.OpDiscard, Length: 1 << 20}
	enginetest.Do(m, r)
	if !errors.Is(r.Err, errors.ErrUnsupported) {
		t.Errorf("discarded with %v", r.Err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
