package store

import (
	"errors"
	"fmt"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/ident"
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
func Sum(b []byte) uint32 { return layout.CRC(b) }

// spoil is a Block on its way to be one that cannot be read.
type spoil struct {
	s       *Store
	request engine.Request
	record  journal.Record
	records int
	err     error
	done    func(error)
}

// Spoil makes a Block of a Replica one that cannot be read: written, with the checksum sum, and holding something else.
// It is how a Rebuild passes on that the content is lost, instead of making up another. The same rules hold as for a
// write.
//
// First the Device's old content is destroyed, so that recovery never finds it to match an older record. Then follows
// the record, twice: recovery takes a Block with a single record and no data that fits for one that was never written
// to, and would have it read as zeros.
func (s *Store) Spoil(h Handle, offset int64, epoch ident.Epoch, sum uint32, done func(error)) {
	refuse := func(err error) { s.later(func() { done(fmt.Errorf("spoil block at %d: %w", offset, err)) }) }
	if err := s.check(&IO{Op: OpWrite, Replica: h, Offset: offset, Length: block}); err != nil {
		refuse(err)
		return
	}
	garbage, err := garbageFor(sum)
	if err != nil {
		refuse(err)
		return
	}
	logical, first := uint32(offset/layout.ExtentSize), int(offset%layout.ExtentSize/block)
	x := s.table.Find(uint32(h), logical)
	if x == extent.None {
		if x = s.table.Allocate(uint32(h), logical); x == extent.None {
			unmap(garbage)
			refuse(ErrNoSpace)
			return
		}
	}
	s.table.Use(x)
	p := &spoil{s: s, done: done, record: journal.Record{
		Type: journal.Write, Replica: uint32(h), Logical: logical, Extent: x, First: first, Blocks: 1,
		Epoch: epoch, CRCs: appendCRC(nil, sum),
	}}
	p.request = engine.Request{
		Op: engine.OpWrite, Offset: s.super.ExtentStart(x) + int64(first)*block, Buf: garbage, Done: p,
	}
	s.device.Submit(&p.request)
}

// garbageFor is a Block whose checksum is not sum.
func garbageFor(sum uint32) ([]byte, error) {
	b, err := aligned(block)
	if err != nil {
		return nil, err
	}
	for i := range b {
		b[i] = 0xdb
	}
	if layout.CRC(b) == sum {
		b[0]++
	}
	return b, nil
}

// Complete implements engine.Completer: the old content is gone.
func (p *spoil) Complete(r *engine.Request) {
	unmap(r.Buf)
	r.Buf = nil
	if r.Err != nil {
		p.records = 1
		p.recorded(r.Err)
		return
	}
	p.records = 2
	p.s.submitMeta(&p.record, p.recorded)
	p.s.submitMeta(&p.record, p.recorded)
}

func (p *spoil) recorded(err error) {
	p.err = errors.Join(p.err, err)
	if p.records--; p.records > 0 {
		return
	}
	p.s.table.Unuse(p.record.Extent)
	err = p.err
	p.s.later(func() { p.done(err) })
}
