// Package mem is a Device in memory whose crash keeps only what was flushed.
//
// Writes are seen by reads as soon as they complete, and survive Crash only after a Flush submitted later has
// completed; any of the others may survive, wholly or in units of 512 bytes, as on a real Device with a volatile
// cache. Two ways to run it: with an Owner a goroutine completes requests as they come; without one nothing moves
// until the test says Step, which is how a simulation stays deterministic.
//
// Contents are pages that never change: a write makes new ones, and a Device left by a crash shares those of the one
// before. So a copy of a Device costs a table, and a flush a pointer for each page.
//
// Concurrency: as engine.Device. Without an Owner everything happens on the caller's goroutine. Kill and Crash of a
// Device at rest only read it, so several goroutines may take copies of one.
package mem

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/invariant"
)

// sector is the unit in which a write is torn, in bytes.
const sector = 512

// pageSize is the unit of contents, in bytes; chunkPages are the pages of a part of the table, which is taken when
// something is written there, so that a large Device costs what is written.
const pageSize, chunkPages = 4096, 256

// errAlignment completes a request that a real Device would refuse.
var errAlignment = errors.New("not aligned or out of bounds")

// Options say what Device to make.
type Options struct {
	Size      int64
	BlockSize int
	// Owner is the monitor; nil for a Device that is moved by Step.
	Owner engine.Owner
}

// part is what a write does to a page, and what a crash may lose: bytes from..to of it.
type part struct {
	number   int64
	from, to int
	page     page
	// more: the next part is of the same write.
	more bool
}

// Device is a Device in memory.
type Device struct {
	info  engine.Info
	owner engine.Owner

	// content is what reads see, durable what was flushed.
	content, durable sparse
	// unflushed are the writes between the two, oldest first.
	unflushed []part

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
	for _, r := range d.queued {
		if r.Op == engine.OpWrite {
			d.write(r.Buf, r.Offset)
		}
	}
	for left := d.unflushed; len(left) > 0; {
		n := 1
		for left[n-1].more {
			n++
		}
		after.durable.survive(left[:n], chance)
		left = left[n:]
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
		for at := 0; at < len(r.Buf); at += pageSize { // what the kernel was given it finishes block by block
			if part := r.Buf[at:min(at+pageSize, len(r.Buf))]; chance.IntN(2) == 0 {
				copy(data[at:], part)
			}
		}
		after.write(data, r.Offset)
	}
	return after
}

// Corrupt flips one bit, at rest.
func (d *Device) Corrupt(offset int64, bit int) {
	var b [1]byte
	d.content.read(b[:], offset)
	b[0] ^= 1 << bit
	for _, s := range []*sparse{&d.content, &d.durable} {
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
		d.write(r.Buf, r.Offset)
	case engine.OpFlush:
		for _, p := range d.unflushed {
			d.durable.put(p)
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

func (d *Device) write(data []byte, offset int64) {
	for p := range split(data, offset) {
		d.content.put(p)
		d.unflushed = append(d.unflushed, p)
	}
}

// split are the parts of a write.
func split(data []byte, offset int64) iter.Seq[part] {
	return func(yield func(part) bool) {
		for len(data) > 0 {
			from := int(offset % pageSize)
			n := min(len(data), pageSize-from)
			p := part{number: offset / pageSize, from: from, to: from + n, more: n < len(data)}
			if n == pageSize {
				p.page = pack(data[:n])
			} else {
				var whole [pageSize]byte
				copy(whole[from:], data[:n])
				p.page = pack(whole[:])
			}
			if !yield(p) {
				return
			}
			data, offset = data[n:], offset+int64(n)
		}
	}
}

// page is how contents of pageSize bytes are kept: what they begin with, and as their end the last tail bytes; all
// between is zero. Without a byte it is zeros altogether. It never changes.
type page []byte

// tail is how much of a page's end is always kept; heads are how much of its beginning may be enough. Tests write
// mostly zeros, and what they take costs time.
const tail = 64

var (
	heads = [...]int{64, 512}
	zeros [pageSize]byte
)

func pack(b []byte) page {
	if bytes.Equal(b, zeros[:]) {
		return nil
	}
	for _, head := range heads {
		if bytes.Equal(b[head:pageSize-tail], zeros[head:pageSize-tail]) {
			p := make(page, head+tail)
			copy(p, b[:head])
			copy(p[head:], b[pageSize-tail:])
			return p
		}
	}
	return append(page(nil), b...)
}

// unpack writes all of the page.
func (p page) unpack(into []byte) {
	if len(p) == 0 {
		clear(into)
		return
	}
	head := len(p) - tail
	copy(into, p[:head])
	clear(into[head : pageSize-tail])
	copy(into[pageSize-tail:], p[head:])
}

type chunk [chunkPages]page

// sparse is contents by page.
type sparse []*chunk

func (s sparse) copied() sparse {
	c := make(sparse, len(s))
	for i, from := range s {
		if from != nil {
			clone := *from
			c[i] = &clone
		}
	}
	return c
}

func (s sparse) page(number int64) page {
	if i := number / chunkPages; i < int64(len(s)) && s[i] != nil {
		return s[i][number%chunkPages]
	}
	return nil
}

// put makes a part the contents.
func (s *sparse) put(p part) {
	i, now := p.number/chunkPages, s.page(p.number)
	if p.to-p.from < pageSize {
		var mixed, changed [pageSize]byte
		now.unpack(mixed[:])
		p.page.unpack(changed[:])
		copy(mixed[p.from:p.to], changed[p.from:])
		p.page = pack(mixed[:])
	}
	if len(p.page) == 0 && len(now) == 0 {
		return
	}
	for int64(len(*s)) <= i {
		*s = append(*s, nil)
	}
	if (*s)[i] == nil {
		(*s)[i] = new(chunk)
	}
	(*s)[i][p.number%chunkPages] = p.page
}

func (s sparse) read(into []byte, offset int64) {
	for len(into) > 0 {
		from := offset % pageSize
		n := min(len(into), int(pageSize-from))
		if p := s.page(offset / pageSize); n == pageSize {
			p.unpack(into[:n])
		} else {
			var whole [pageSize]byte
			p.unpack(whole[:])
			copy(into[:n], whole[from:])
		}
		into, offset = into[n:], offset+int64(n)
	}
}

// survive lets chance decide: all of a write, nothing, or some of its sectors.
func (s *sparse) survive(write []part, chance *rand.Rand) {
	fate := chance.IntN(3)
	for _, p := range write {
		switch fate {
		case 0:
		case 1:
			s.put(p)
		default:
			for from := p.from; from < p.to; from += sector {
				if chance.IntN(2) == 0 {
					s.put(part{number: p.number, from: from, to: min(from+sector, p.to), page: p.page})
				}
			}
		}
	}
}

// Peek reads the contents past the queue, for a test's own eyes.
func (d *Device) Peek(into []byte, offset int64) { d.content.read(into, offset) }
