package layout

import (
	"encoding/binary"
	"errors"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
)

// ErrCorruptSlot says that a slot is not what a Checkpoint names.
var ErrCorruptSlot = errors.New("extent slot is damaged")

// Blocks is what is known of each Block of an Extent.
type Blocks struct {
	// Written has a bit for each Block that was written since its Extent was allocated, and not discarded.
	Written bitmap.Bitmap
	// CRC of each written Block.
	CRC [ExtentBlocks]uint32
}

// Has reports whether Block i is written.
func (b *Blocks) Has(i int) bool { return b.Written.Has(i) }

// Set marks Block i as written with the checksum.
func (b *Blocks) Set(i int, crc uint32) {
	b.Written.Set(i)
	b.CRC[i] = crc
}

// Clear marks Block i as never written.
func (b *Blocks) Clear(i int) {
	b.Written.Clear(i)
	b.CRC[i] = 0
}

// IsEmpty reports whether no Block is written.
func (b *Blocks) IsEmpty() bool { return b.Written == bitmap.Bitmap{} }

// Slot is an Extent's metadata at rest.
type Slot struct {
	Extent, Replica, Logical uint32
	Epoch                    ident.Epoch
	Blocks                   *Blocks
}

// Encode writes s into the Unit b.
func (s *Slot) Encode(b []byte, salt uint64) {
	clear(b[:Unit])
	le := binary.LittleEndian
	le.PutUint64(b, salt)
	le.PutUint32(b[8:], s.Extent)
	le.PutUint32(b[12:], s.Replica)
	le.PutUint32(b[16:], s.Logical)
	le.PutUint64(b[24:], uint64(s.Epoch))
	for i, w := range s.Blocks.Written {
		le.PutUint64(b[32+8*i:], w)
	}
	for i, c := range s.Blocks.CRC {
		le.PutUint32(b[64+4*i:], c)
	}
	le.PutUint32(b[crcAt:], CRC(b[:crcAt]))
}

// Decode reads the slot of an Extent from the Unit b into s and the Blocks it points to.
func (s *Slot) Decode(b []byte, salt uint64, extent uint32) error {
	le := binary.LittleEndian
	if len(b) < Unit || CRC(b[:crcAt]) != le.Uint32(b[crcAt:]) || le.Uint64(b) != salt || le.Uint32(b[8:]) != extent {
		return ErrCorruptSlot
	}
	s.Extent, s.Replica, s.Logical = extent, le.Uint32(b[12:]), le.Uint32(b[16:])
	s.Epoch = ident.Epoch(le.Uint64(b[24:]))
	for i := range s.Blocks.Written {
		s.Blocks.Written[i] = le.Uint64(b[32+8*i:])
	}
	for i := range s.Blocks.CRC {
		s.Blocks.CRC[i] = le.Uint32(b[64+4*i:])
	}
	return nil
}
