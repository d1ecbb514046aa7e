// Package mem is a Device in memory whose crash keeps only what was flushed.
//
// Writes are seen by reads as soon as they complete, and survive Crash only after a Flush submitted later has
// completed; any of the others may survive, wholly or in units of 512 bytes, as on a real Device with a volatile
// cache. Two ways to run it: with an Owner a goroutine completes requests as they come; without one nothing moves
// until the test says Step, which is how a simulation stays deterministic.
//
// Concurrency: as engine.Device. Without an Owner everything happens on the caller's goroutine.
package mem

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/invariant"
)

// sector is the unit in which a write is torn, in bytes.
const sector = 512

// page is the unit in which memory is taken, in bytes, so that a large Device costs what is written.
const page = 64 << 10

// errAlignment completes a request that a real Device would refuse.
var errAlignment = errors.New("not aligned or out of bounds")

// Options say what Device to make.
type Options struct {
	Size      int64
	BlockSize int
	// Owner is the monitor; nil for a Device that is moved by Step.
	Owner engine.Owner
}

// write is one that a crash may lose.
type write struct {
	offset int64
	data   []byte
}

// Device is a Device in memory.
type Device struct {
	info  engine.Info
	owner engine.Owner

	// content is what reads see, durable what was flushed.
	content, durable sparse
	// unflushed are the writes between the two, oldest first.
	unflushed []write

	queued  []*engine.Request
	closed  bool
	wake    chan struct{}
	stopped sync.WaitGroup
}

// New makes a Device full of zeros.
func New(o Options) *Device {
	if o.BlockSize == 0 {
		o.BlockSize = 4096
	}
	invariant.Check(o.Size > 0 && o.Size%int64(o.BlockSize) == 0, "memory device of %d bytes", o.Size)
	d := &Device{
		info:  engine.Info{Path: "memory", Size: o.Size, BlockSize: o.BlockSize, Discard: true},
		owner: o.Owner, content: sparse{}, durable: sparse{}, wake: make(chan struct{}, 1),
	}
	if o.Owner != nil {
		d.stopped.Go(d.run)
	}
	return d
}

// Info implements engine.Device.
func (d *Device) Info() engine.Info { return d.info }

// Submit implements engine.Device.
func (d *Device) Submit(r *engine.Request) {
	if d.closed {
		r.Err = engine.ErrClosed
		r.Done.Complete(r)
		return
	}
	d.queued = append(d.queued, r)
}

// Kick implements engine.Device.
func (d *Device) Kick() {
	if len(d.queued) == 0 || d.closed || d.owner == nil {
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Pending is the number of requests submitted and not completed.
func (d *Device) Pending() int { return len(d.queued) }

// Step completes the i-th pending request; only without an Owner.
func (d *Device) Step(i int) {
	r := d.queued[i]
	d.queued = append(d.queued[:i:i], d.queued[i+1:]...)
	d.complete(r)
}

// Drain steps until nothing is pending, oldest first.
func (d *Device) Drain() {
	for d.Pending() > 0 {
		d.Step(0)
	}
}

// Close implements engine.Device.
func (d *Device) Close() error {
	if d.owner == nil {
		d.Drain()
		d.closed = true
		return nil
	}
	d.owner.Enter()
	d.closed = true
	d.owner.Leave()
	close(d.wake)
	d.stopped.Wait()
	return nil
}

// Crash is a new Device that holds what is left after power loss: all that was flushed, and of the rest what chance
// lets live. Requests in flight are as unflushed writes. The old Device must not be used any more.
func (d *Device) Crash(chance *rand.Rand, owner engine.Owner) *Device {
	after := New(Options{Size: d.info.Size, BlockSize: d.info.BlockSize, Owner: owner})
	after.durable = d.durable.copied()
	unflushed := d.unflushed
	for _, r := range d.queued {
		if r.Op == engine.OpWrite {
			unflushed = append(unflushed, write{r.Offset, r.Buf})
		}
	}
	for _, w := range unflushed {
		after.durable.survive(w, chance)
	}
	after.content = after.durable.copied()
	return after
}

// Kill is a new Device that holds what is left after the end of the process: all completed writes, and of those in
// flight what chance lets live.
func (d *Device) Kill(chance *rand.Rand, owner engine.Owner) *Device {
	after := New(Options{Size: d.info.Size, BlockSize: d.info.BlockSize, Owner: owner})
	after.content, after.durable = d.content.copied(), d.durable.copied()
	after.unflushed = append(after.unflushed, d.unflushed...)
	for _, r := range d.queued {
		if r.Op != engine.OpWrite {
			continue
		}
		data := make([]byte, len(r.Buf))
		after.content.read(data, r.Offset)
		mixed := sparse{}
		mixed.write(data, r.Offset)
		for at := 0; at < len(r.Buf); at += 4096 { // what the kernel was given it finishes block by block
			if part := r.Buf[at:min(at+4096, len(r.Buf))]; chance.IntN(2) == 0 {
				mixed.write(part, r.Offset+int64(at))
			}
		}
		mixed.read(data, r.Offset)
		after.content.write(data, r.Offset)
		after.unflushed = append(after.unflushed, write{r.Offset, data})
	}
	return after
}

// Corrupt flips one bit, at rest.
func (d *Device) Corrupt(offset int64, bit int) {
	var b [1]byte
	d.content.read(b[:], offset)
	b[0] ^= 1 << bit
	d.content.write(b[:], offset)
	d.durable.write(b[:], offset)
}

// Allocated is the memory the contents take, in bytes.
func (d *Device) Allocated() int64 { return int64(len(d.content)) * page }

func (d *Device) run() {
	for range d.wake {
		d.owner.Enter()
		for len(d.queued) > 0 {
			d.Step(0)
		}
		d.owner.Leave()
	}
	d.owner.Enter()
	d.Drain()
	d.owner.Leave()
}

func (d *Device) complete(r *engine.Request) {
	r.Err = d.execute(r)
	r.Done.Complete(r)
}

func (d *Device) execute(r *engine.Request) error {
	length := int64(len(r.Buf))
	if r.Op == engine.OpDiscard {
		length = r.Length
	}
	block := int64(d.info.BlockSize)
	if r.Offset%block != 0 || length%block != 0 || r.Offset < 0 || r.Offset+length > d.info.Size {
		return fmt.Errorf("%d bytes at %d: %w", length, r.Offset, errAlignment)
	}
	switch r.Op {
	case engine.OpRead:
		d.content.read(r.Buf, r.Offset)
	case engine.OpWrite:
		d.content.write(r.Buf, r.Offset)
		d.unflushed = append(d.unflushed, write{r.Offset, append([]byte(nil), r.Buf...)})
	case engine.OpFlush:
		for _, w := range d.unflushed {
			d.durable.write(w.data, w.offset)
		}
		clear(d.unflushed)
		d.unflushed = d.unflushed[:0]
	case engine.OpDiscard:
		// What a discarded range reads as is undefined: leaving it is allowed, and finds users of old bytes.
	default:
		return fmt.Errorf("operation %d: %w", r.Op, errors.ErrUnsupported)
	}
	return nil
}

// sparse is contents by page.
type sparse map[int64]*[page]byte

func (s sparse) copied() sparse {
	c := make(sparse, len(s))
	for at, p := range s {
		clone := *p
		c[at] = &clone
	}
	return c
}

func (s sparse) read(into []byte, offset int64) {
	for len(into) > 0 {
		at, from := offset/page, offset%page
		n := min(len(into), int(page-from))
		if p := s[at]; p != nil {
			copy(into[:n], p[from:])
		} else {
			clear(into[:n])
		}
		into, offset = into[n:], offset+int64(n)
	}
}

func (s sparse) write(data []byte, offset int64) {
	for len(data) > 0 {
		at, from := offset/page, offset%page
		n := min(len(data), int(page-from))
		p := s[at]
		if p == nil {
			if isZero(data[:n]) {
				data, offset = data[n:], offset+int64(n)
				continue
			}
			p = new([page]byte)
			s[at] = p
		}
		copy(p[from:], data[:n])
		data, offset = data[n:], offset+int64(n)
	}
}

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// survive lets chance decide: all of a write, nothing, or some of its sectors.
func (s sparse) survive(w write, chance *rand.Rand) {
	switch chance.IntN(3) {
	case 0:
		return
	case 1:
		s.write(w.data, w.offset)
		return
	}
	for at := 0; at < len(w.data); at += sector {
		if chance.IntN(2) == 0 {
			s.write(w.data[at:min(at+sector, len(w.data))], w.offset+int64(at))
		}
	}
}

// Peek reads the contents past the queue, for a test's own eyes.
func (d *Device) Peek(into []byte, offset int64) { d.content.read(into, offset) }
