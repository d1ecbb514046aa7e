// Package mem is a Device in memory whose crash keeps only what was flushed.
//
// Writes are seen by reads as soon as they complete, and survive Crash only after a Flush submitted later has
// completed; any of the others may survive, wholly or in units of 512 bytes, as on a real Device with a volatile
// cache. With Whims it does whatever else package engine allows. Two ways to run it: with an Owner a goroutine
// completes requests as they come; without one nothing moves until the test says Step, which is how a simulation stays
// deterministic.
//
// Contents are pages that never change: a write makes new ones, and a Device left by a crash shares those of the one
// before. So a copy of a Device costs a table, and a flush a pointer for each page.
//
// Concurrency: as engine.Device. Without an Owner everything happens on the caller's goroutine. Kill and Crash of a
// Device at rest only read it, so several goroutines may take copies of one.
package mem

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/invariant"
)

// sector is the unit in which a write is torn, in bytes.
const sector = 512

// errAlignment completes a request that a real Device would refuse.
var errAlignment = errors.New("not aligned or out of bounds")

// Options say what Device to make.
type Options struct {
	Size      int64
	BlockSize int
	// Owner is the monitor; nil for a Device that is moved by Step.
	Owner engine.Owner
}

// pending is a request that has not completed.
type pending struct {
	*engine.Request
	// completed is how many changes had when it was submitted.
	completed int64
	// executed: it has had its effect, and change is what it changed.
	executed bool
	change   *change
}

// Device is a Device in memory.
type Device struct {
	info  engine.Info
	owner engine.Owner

	// content is what reads see, durable what was flushed.
	content, durable medium
	// unflushed are the changes between the two, oldest first; completed counts those that ever did.
	unflushed []*change
	completed int64
	whims     Whims

	queued  []*pending
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
		owner: o.Owner, wake: make(chan struct{}, 1),
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
	d.queued = append(d.queued, &pending{Request: r, completed: d.completed})
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
	if chance := d.whims.Chance; d.whims.Early && chance.IntN(4) == 0 {
		d.execute(d.queued[chance.IntN(len(d.queued))])
	}
	p := d.queued[i]
	d.queued = append(d.queued[:i:i], d.queued[i+1:]...)
	d.execute(p)
	if p.change != nil {
		d.completed++
		p.change.done = d.completed
	}
	p.Done.Complete(p.Request)
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
	after.whims = d.whims
	after.durable = d.durable.copied()
	for _, p := range d.queued {
		if p.Op == engine.OpWrite || p.Op == engine.OpDiscard {
			d.execute(p)
		}
	}
	for _, c := range d.unflushed {
		after.durable.survive(c, int64(d.info.BlockSize), d.whims, chance)
	}
	after.content = after.durable.copied()
	return after
}

// Kill is a new Device that holds what is left after the end of the process: all completed writes, and of those in
// flight what chance lets live.
func (d *Device) Kill(chance *rand.Rand, owner engine.Owner) *Device {
	after := New(Options{Size: d.info.Size, BlockSize: d.info.BlockSize, Owner: owner})
	after.whims = d.whims
	after.content, after.durable = d.content.copied(), d.durable.copied()
	after.completed = d.completed + 1
	for _, c := range d.unflushed {
		same := *c
		if same.done == 0 { // nobody will hear of its completion
			same.done = after.completed
		}
		after.unflushed = append(after.unflushed, &same)
	}
	for _, p := range d.queued {
		switch {
		case p.executed:
		case p.Op == engine.OpWrite: // what the kernel was given it finishes block by block
			for at := 0; at < len(p.Buf); at += pageSize {
				if chance.IntN(2) == 0 {
					block := p.Buf[at:min(at+pageSize, len(p.Buf))]
					r := &engine.Request{Op: engine.OpWrite, Offset: p.Offset + int64(at), Buf: block}
					after.apply(r).done = after.completed
				}
			}
		case p.Op == engine.OpDiscard && d.whims.Discards && chance.IntN(2) == 0:
			after.apply(p.Request).done = after.completed
		}
	}
	return after
}

// Corrupt flips one bit, at rest.
func (d *Device) Corrupt(offset int64, bit int) {
	var b [1]byte
	d.content.pages.read(b[:], offset)
	b[0] ^= 1 << bit
	for _, s := range []*sparse{&d.content.pages, &d.durable.pages} {
		for p := range split(b[:], offset) {
			s.put(p)
		}
	}
}

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

// execute lets a request have its effect, unless it has had it.
func (d *Device) execute(p *pending) {
	if p.executed {
		return
	}
	p.executed = true
	if p.Err = d.check(p.Request); p.Err != nil {
		return
	}
	switch p.Op {
	case engine.OpRead:
		p.Err = d.content.read(p.Buf, p.Offset, int64(d.info.BlockSize), d.whims.Chance)
	case engine.OpWrite:
		p.change = d.apply(p.Request)
	case engine.OpFlush:
		d.flush(p.completed)
	case engine.OpDiscard:
		if d.whims.Discards {
			p.change = d.apply(p.Request)
		}
	}
}

func (d *Device) check(r *engine.Request) error {
	length := int64(len(r.Buf))
	switch r.Op {
	case engine.OpRead, engine.OpWrite, engine.OpFlush:
	case engine.OpDiscard:
		length = r.Length
	default:
		return fmt.Errorf("operation %d: %w", r.Op, errors.ErrUnsupported)
	}
	block := int64(d.info.BlockSize)
	if r.Offset%block != 0 || length%block != 0 || r.Offset < 0 || r.Offset+length > d.info.Size {
		return fmt.Errorf("%d bytes at %d: %w", length, r.Offset, errAlignment)
	}
	return nil
}

// Peek reads the contents past the queue, for a test's own eyes.
func (d *Device) Peek(into []byte, offset int64) { d.content.pages.read(into, offset) }
