package uring

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/engine"
)

// discards are those of a block device. A hole punched into one is zeros to be written, not a discard, and the ioctl
// that is one waits for the Device, so that no signal and no completion gets through to its thread meanwhile. Hence two
// goroutines: one has the ioctl called for one Request at a time and completes it, and is there as long as there are
// any; the other has a thread of its own, from Open to Close, which does nothing but call. What else the first one, or
// anybody, hands to the ring then never waits for a discard.
type discards struct {
	// These are guarded by the monitor.
	first, last *engine.Request
	running     bool

	// ranges go to the thread, outcomes come back.
	ranges   chan [2]int64
	outcomes chan error
}

// begin starts the thread.
func (d *discards) begin(discard func(offset, length int64) error) {
	d.ranges, d.outcomes = make(chan [2]int64), make(chan error)
	go func() {
		// From the beginning, as the thread may have submitted something before; and given back at the end, as the
		// kernel cancels what a thread that ends has submitted.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for r := range d.ranges {
			d.outcomes <- discard(r[0], r[1])
		}
	}()
}

// end ends the thread; nothing is being discarded.
func (d *discards) end() {
	if d.ranges != nil {
		close(d.ranges)
	}
}

func (d *Device) discard(r *engine.Request) {
	r.Next = nil
	if d.discards.last == nil {
		d.discards.first = r
	} else {
		d.discards.last.Next = r
	}
	d.discards.last = r
	if !d.discards.running {
		d.discards.running = true
		go d.discardAll()
	}
}

func (d *Device) discardAll() {
	d.owner.Enter()
	for r := d.discards.first; r != nil; r = d.discards.first {
		if d.discards.first = r.Next; r.Next == nil {
			d.discards.last = nil
		}
		d.owner.Leave()
		d.discards.ranges <- [2]int64{r.Offset, r.Length}
		err := <-d.discards.outcomes
		d.owner.Enter()
		r.Err = err
		r.Done.Complete(r)
	}
	d.discards.running = false
	if d.closing { // its Owner may have nothing to do with it any more
		d.stopIfDrained()
		d.Kick()
	}
	d.owner.Leave()
}

// discardRange returns when the Device has done it.
func discardRange(fd int, offset, length int64) error {
	bounds := [2]uint64{uint64(offset), uint64(length)}
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKDISCARD, uintptr(unsafe.Pointer(&bounds)))
		switch {
		case errno == 0:
			return nil
		case !errors.Is(errno, unix.EINTR):
			return fmt.Errorf("discard %d bytes at %d: %w", length, offset, errno)
		}
	}
}
