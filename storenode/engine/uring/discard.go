package uring

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/engine"
)

// discards are those of a block device. A hole punched into one is zeros to be written, not a discard, and the ioctl
// that is one waits for the Device: so it is called on a goroutine, which is there as long as there are any, and calls
// for one at a time. All is guarded by the monitor.
type discards struct {
	first, last *engine.Request
	running     bool
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
		err := discardRange(d.fd, r.Offset, r.Length)
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
