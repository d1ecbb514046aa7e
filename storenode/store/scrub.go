package store

import (
	"errors"
	"fmt"

	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
)

// Checksum is the one that is remembered for a Block of a Replica, and whether the Block was written.
func (s *Store) Checksum(h Handle, offset int64) (sum uint32, written bool) {
	i := int(offset % layout.ExtentSize / block)
	x := s.find(uint32(h), uint32(offset/layout.ExtentSize))
	if x == extent.None || !s.table.Blocks(x).Has(i) {
		return 0, false
	}
	return s.table.Blocks(x).CRC[i], true
}

// Sum is the checksum of a Block's content, as Checksum has it.
func Sum(b []byte) uint32 { return checksum.Block(b) }

// spoil is a Block on its way to be one that cannot be read.
type spoil struct {
	s      *Store
	io     *IO
	record journal.Record
	// left are the IOs to come, records those in flight.
	left    []Op
	records int
	err     error
	done    func(error)
}

// Spoil makes a Block of a Replica one that cannot be read: written, with the checksum sum, and holding something else.
// It is how a Rebuild passes on that the content is lost, instead of making up another. The same rules hold as for a
// write: io names the Replica, Offset and Epoch, and its Buf is a Block of memory to work with; both are the Store's
// until done.
//
// It goes the ways that others go, because it is rare. A discard ends what is remembered of the old content; garbage
// goes behind what may still be on its way there; another discard has the garbage forgotten, so that recovery finds
// nothing older to fall back to. Then the record follows, twice: a Block with a single record and no data that fits
// is one that was never written to for recovery, and would read as zeros.
func (s *Store) Spoil(io *IO, sum uint32, done func(error)) {
	refuse := func(err error) { s.later(func() { done(fmt.Errorf("spoil block at %d: %w", io.Offset, err)) }) }
	p := &spoil{s: s, io: io, done: done, left: []Op{OpDiscard, OpWrite, OpDiscard}}
	io.Op, io.FUA, io.Length, io.Seq, io.Done = OpWrite, false, block, 0, p
	if err := s.check(io); err != nil {
		refuse(err)
		return
	}
	garbage := io.Buf.Bytes()
	for i := range garbage {
		garbage[i] = 0xdb
	}
	if checksum.Block(garbage) == sum {
		garbage[0]++
	}
	logical, first, _ := span(io, 0)
	x := s.table.Find(uint32(io.Replica), logical)
	if x == extent.None {
		if x = s.table.Allocate(uint32(io.Replica), logical); x == extent.None {
			refuse(ErrNoSpace)
			return
		}
	}
	s.table.Use(x) // it may be empty in between
	p.record = journal.Record{
		Type: journal.Write, Replica: uint32(io.Replica), Logical: logical, Extent: x, First: first, Blocks: 1,
		Epoch: io.Epoch, CRCs: appendCRC(nil, sum),
	}
	p.next()
}

func (p *spoil) next() {
	if len(p.left) > 0 {
		p.io.Op, p.left = p.left[0], p.left[1:]
		p.s.Submit(p.io)
		return
	}
	p.records = 2
	p.s.submitMeta(&p.record, p.recorded)
	p.s.submitMeta(&p.record, p.recorded)
}

// IODone implements Completer.
func (p *spoil) IODone(io *IO) {
	if io.Err != nil {
		p.end(io.Err)
		return
	}
	p.next()
}

func (p *spoil) recorded(err error) {
	p.err = errors.Join(p.err, err)
	if p.records--; p.records == 0 {
		p.end(p.err)
	}
}

func (p *spoil) end(err error) {
	p.s.table.Unuse(p.record.Extent)
	p.done(err)
}
