package uring_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/enginetest"
	"github.com/shale-storage/shale/storenode/engine/uring"
)

// hanging is a path whose opening hangs, as that of a Device may, until it is let go: nobody answers for its file
// system.
func hanging(t *testing.T) (path string, letGo func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("nothing to hang is to be had here: %v", err)
	}
	letGo = sync.OnceFunc(func() { _ = unix.Close(fd) })
	t.Cleanup(letGo)
	dir := t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("hanging", dir, "fuse", 0, options); err != nil {
		t.Skipf("nothing to hang is to be had here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "device.img"), letGo
}

// TestAnOpeningThatHangsHoldsUpNoOtherDevice: the kernel ends requests on the thread that submitted them, which may be
// the one that is to open another Device.
func TestAnOpeningThatHangsHoldsUpNoOtherDevice(t *testing.T) {
	const size = 128 << 10
	path, letGo := hanging(t)
	m := &enginetest.Monitor{}
	dev := open(t, sparseFile(t, 16<<20), m)
	m.Device = dev
	var openings sync.WaitGroup
	defer func() {
		letGo()
		openings.Wait()
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	}()
	// What was written: holes are read at once. Often: the Device may be quicker than the opening.
	enginetest.Do(m, &engine.Request{Op: engine.OpWrite, Buf: enginetest.Aligned(size)})
	for range 20 {
		ended, opened := make(ends, 1), make(chan struct{})
		openings.Go(func() {
			m.Enter()
			dev.Submit(&engine.Request{Op: engine.OpRead, Buf: enginetest.Aligned(size), Done: ended})
			dev.Kick()
			m.Leave()
			if other, err := uring.Open(path, &enginetest.Monitor{}); err == nil {
				_ = other.Close()
			}
			close(opened)
		})
		select {
		case <-ended:
		case <-opened:
			t.Fatal("the opening did not hang")
		case <-time.After(10 * time.Second):
			t.Fatal("a request of another Device waits for an opening that hangs")
		}
	}
}

// ends takes Requests that have ended.
type ends chan *engine.Request

// Complete implements engine.Completer.
func (e ends) Complete(r *engine.Request) { e <- r }
