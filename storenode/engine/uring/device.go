package uring

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/invariant"
	"github.com/shale-storage/shale/storenode/poll"
)

const (
	// maxInFlight bounds the requests in the kernel.
	maxInFlight = 256
	// stopToken is the user data of the entry that ends the delivery.
	stopToken = maxInFlight
)

var errAlignment = errors.New("not aligned or out of bounds")

// Device is a block device or a file.
type Device struct {
	info engine.Info
	// block: it is a block device, not a file.
	block bool
	fd    int
	owner engine.Owner
	ring  *ring
	// source is the ring with the loop that delivers.
	source *poll.Source

	// slots hold the requests that the kernel has, free the indices of the others.
	slots [maxInFlight]*engine.Request
	free  []uint16
	// first and last are the requests that wait for a slot.
	first, last *engine.Request
	discards    discards
	closing     bool
	// stopped is closed when nothing is delivered any more.
	stopped chan struct{}
}

// Open opens the Device at path and starts to deliver completions to owner. It holds the Device exclusively: a second
// Open of the same path, and one of a mounted block device, fails with unix.EBUSY.
func Open(path string, owner engine.Owner) (*Device, error) {
	fd, info, block, err := openApart(path)
	if err != nil {
		return nil, err
	}
	r, err := newRing(maxInFlight)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open device %s: %w", path, err)
	}
	d := &Device{info: info, block: block, fd: fd, owner: owner, ring: r, stopped: make(chan struct{})}
	for i := range maxInFlight {
		d.free = append(d.free, uint16(maxInFlight-1-i))
	}
	if d.source, err = poll.Join(r.fd, d); err != nil {
		r.close()
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open device %s: %w", path, err)
	}
	if block {
		d.discards.begin(func(offset, length int64) error { return discardRange(fd, offset, length) })
	}
	return d, nil
}

// Info implements engine.Device.
func (d *Device) Info() engine.Info { return d.info }

// Submit implements engine.Device.
func (d *Device) Submit(r *engine.Request) {
	if d.closing {
		r.Err = engine.ErrClosed
		r.Done.Complete(r)
		return
	}
	if r.Op == engine.OpDiscard && d.block && d.inBounds(r) {
		d.discard(r)
		return
	}
	r.Next = nil
	if len(d.free) > 0 && d.first == nil {
		d.fill(r)
		return
	}
	if d.last == nil {
		d.first = r
	} else {
		d.last.Next = r
	}
	d.last = r
}

// Kick implements engine.Device.
func (d *Device) Kick() {
	if d.ring.filled == 0 {
		return
	}
	if err := d.ring.submit(); err != nil { // not Check alone: its arguments would be allocated each time
		invariant.Check(false, "io_uring of %s refuses submissions: %v", d.info.Path, err)
	}
}

// Close implements engine.Device.
func (d *Device) Close() error {
	d.owner.Enter()
	if d.closing {
		d.owner.Leave()
		return nil
	}
	d.closing = true
	d.stopIfDrained()
	d.Kick()
	d.owner.Leave()
	<-d.stopped
	d.discards.end()
	d.ring.close()
	_ = unix.Flock(d.fd, unix.LOCK_UN) // the kernel may keep the file for a moment longer, and its lock with it
	return unix.Close(d.fd)
}

// fill makes the submission entry of r; a slot is free.
func (d *Device) fill(r *engine.Request) {
	slot := d.free[len(d.free)-1]
	d.free = d.free[:len(d.free)-1]
	d.slots[slot] = r
	e := d.ring.next()
	e.userData = uint64(slot)
	e.fd = int32(d.fd)
	if !d.inBounds(r) {
		// A no-op carries the refusal, so that it is delivered like everything else.
		e.opcode = opNop
		return
	}
	e.offset = uint64(r.Offset)
	switch r.Op {
	case engine.OpRead, engine.OpWrite:
		e.opcode = opRead
		if r.Op == engine.OpWrite {
			e.opcode = opWrite
		}
		e.addr = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(r.Buf))))
		e.length = uint32(len(r.Buf))
	case engine.OpFlush:
		e.opcode, e.offset, e.opFlags = opFsync, 0, fsyncDatasync
	case engine.OpDiscard:
		// Of a file. For fallocate the length travels in addr, the mode in length.
		e.opcode, e.addr = opFallocate, uint64(r.Length)
		e.length = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	}
}

func (d *Device) inBounds(r *engine.Request) bool {
	block, length := int64(d.info.BlockSize), int64(len(r.Buf))
	switch r.Op {
	case engine.OpFlush:
		return true
	case engine.OpDiscard:
		length = r.Length
	case engine.OpRead, engine.OpWrite:
		if uintptr(unsafe.Pointer(unsafe.SliceData(r.Buf)))%uintptr(block) != 0 {
			return false
		}
	default:
		return false
	}
	return r.Offset >= 0 && length > 0 && r.Offset%block == 0 && length%block == 0 && r.Offset+length <= d.info.Size
}

// Ready implements poll.Handler: something has completed.
func (d *Device) Ready(poll.Events) {
	d.owner.Enter()
	stop := d.deliver()
	if d.closing { // its Owner may have nothing to do with it any more
		d.Kick()
	}
	d.owner.Leave()
	if stop {
		d.source.Leave()
		close(d.stopped)
	}
}

// deliver completes all that is there; inside the monitor.
func (d *Device) deliver() (stop bool) {
	for {
		c, ok := d.ring.completion()
		if !ok {
			return stop
		}
		if c.userData == stopToken {
			stop = true
			continue
		}
		r := d.slots[c.userData]
		d.slots[c.userData] = nil
		d.free = append(d.free, uint16(c.userData))
		r.Err = d.outcome(r, c.result)
		if next := d.first; next != nil {
			d.first = next.Next
			if d.first == nil {
				d.last = nil
			}
			d.fill(next)
		}
		r.Done.Complete(r)
		d.stopIfDrained()
	}
}

// stopIfDrained ends the delivery of a closing Device once nothing is in flight.
func (d *Device) stopIfDrained() {
	if d.closing && len(d.free) == maxInFlight && d.first == nil && !d.discards.running {
		e := d.ring.next()
		e.opcode, e.userData = opNop, stopToken
	}
}

func (d *Device) outcome(r *engine.Request, result int32) error {
	switch {
	case !d.inBounds(r):
		return fmt.Errorf("operation %d of %d bytes at %d: %w", r.Op, len(r.Buf), r.Offset, errAlignment)
	case result >= 0 && (r.Op == engine.OpFlush || r.Op == engine.OpDiscard || int(result) == len(r.Buf)):
		return nil
	case result >= 0:
		return fmt.Errorf("operation %d at %d: %d of %d bytes: %w", r.Op, r.Offset, result, len(r.Buf), io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("operation %d of %d bytes at %d: %w", r.Op, len(r.Buf), r.Offset, unix.Errno(-result))
}
