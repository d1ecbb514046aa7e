package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// ErrMalformed says that a frame with a right checksum holds no records of ours.
var ErrMalformed = errors.New("malformed journal record")

// Type of a record.
type Type uint8

// The types. A number is never used again.
const (
	Write Type = iota + 1
	Clear
	Create
	Delete
	SetRecord
	SetGeneration
	Note
	// WriteData is a Write whose data lies in the units behind the frame, in the order of records.
	WriteData
	// Sound: the Replica misses nothing any more that power losses before may have taken from it.
	Sound
)

// Sizes of encoded records, in bytes.
const (
	extentRecordSize = 1 + 2 + 2 + 4 + 4 + 4 + 8 + 8
	noteSize         = 1 + 4 + 8 + 8 + 8 + 4
	createSize       = 1 + 4 + 16 + 4 + 4 + 8
)

// Record is one decoded record; fields that its Type does not have are zero.
type Record struct {
	Type    Type
	Replica uint32
	// Write, WriteData and Clear: Blocks from First on, of the Extent, which is the Replica's Logical one.
	First, Blocks   int
	Logical, Extent uint32
	Seq             ident.Seq
	Epoch           ident.Epoch
	// CRCs of a Write or WriteData, encoded; see CRC.
	CRCs []byte
	// Note, in bytes.
	Offset int64
	Length uint32
	// Create.
	Key  ident.ReplicaKey
	Size int64
	// SetRecord and SetGeneration.
	Membership membership.Record
	Generation ident.Generation
}

// CRC is the checksum of the i-th Block of a Write.
func (r *Record) CRC(i int) uint32 { return binary.LittleEndian.Uint32(r.CRCs[4*i:]) }

// WriteSize is the size of a Write record of so many Blocks.
func WriteSize(blocks int) int { return extentRecordSize + 4*blocks }

// AppendExtent encodes a Write or Clear behind b, without checksums: those of a Write are appended by the caller.
func AppendExtent(b []byte, r *Record) []byte {
	le := binary.LittleEndian
	b = append(b, byte(r.Type))
	b = le.AppendUint16(b, uint16(r.Blocks))
	b = le.AppendUint16(b, uint16(r.First))
	b = le.AppendUint32(b, r.Replica)
	b = le.AppendUint32(b, r.Logical)
	b = le.AppendUint32(b, r.Extent)
	b = le.AppendUint64(b, uint64(r.Seq))
	return le.AppendUint64(b, uint64(r.Epoch))
}

// Append encodes r behind b.
func Append(b []byte, r *Record) []byte {
	le := binary.LittleEndian
	if r.Type == Write || r.Type == WriteData || r.Type == Clear {
		return append(AppendExtent(b, r), r.CRCs...)
	}
	b = append(b, byte(r.Type))
	b = le.AppendUint32(b, r.Replica)
	switch r.Type {
	case Create:
		b = append(b, r.Key.Shard.Volume[:]...)
		b = le.AppendUint32(b, r.Key.Shard.Index)
		b = le.AppendUint32(b, uint32(r.Key.Replica))
		b = le.AppendUint64(b, uint64(r.Size))
	case SetRecord:
		encoded := wire.AppendRecord(nil, r.Membership)
		b = le.AppendUint16(b, uint16(len(encoded)))
		b = append(b, encoded...)
	case SetGeneration:
		b = le.AppendUint64(b, uint64(r.Generation))
	case Note:
		b = le.AppendUint64(b, uint64(r.Seq))
		b = le.AppendUint64(b, uint64(r.Epoch))
		b = le.AppendUint64(b, uint64(r.Offset))
		b = le.AppendUint32(b, r.Length)
	case Write, WriteData, Clear, Delete, Sound:
	}
	return b
}

// Next decodes the first record of b into r, whose CRCs point into b, and returns what is behind it.
func Next(b []byte, r *Record) (rest []byte, err error) {
	if len(b) < 5 {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	*r = Record{Type: Type(b[0])}
	le := binary.LittleEndian
	switch r.Type {
	case Write, WriteData, Clear:
		return nextExtent(b, r)
	case Create, Delete, SetRecord, SetGeneration, Note, Sound:
	default:
		return nil, fmt.Errorf("%w: type %d", ErrMalformed, r.Type)
	}
	r.Replica = le.Uint32(b[1:])
	size := fixedSize(r.Type)
	if len(b) < size {
		return nil, fmt.Errorf("%w: type %d in %d bytes", ErrMalformed, r.Type, len(b))
	}
	switch r.Type {
	case Create:
		copy(r.Key.Shard.Volume[:], b[5:])
		r.Key.Shard.Index, r.Key.Replica = le.Uint32(b[21:]), ident.ReplicaID(le.Uint32(b[25:]))
		r.Size = int64(le.Uint64(b[29:]))
		if r.Size <= 0 || r.Size%ident.BlockSize != 0 {
			return nil, fmt.Errorf("%w: replica of %d bytes", ErrMalformed, r.Size)
		}
	case SetRecord:
		n := int(le.Uint16(b[5:]))
		if len(b) < size+n {
			return nil, fmt.Errorf("%w: membership ends early", ErrMalformed)
		}
		if r.Membership, err = wire.DecodeRecord(b[size : size+n]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		size += n
	case SetGeneration:
		r.Generation = ident.Generation(le.Uint64(b[5:]))
	case Note:
		r.Seq, r.Epoch = ident.Seq(le.Uint64(b[5:])), ident.Epoch(le.Uint64(b[13:]))
		r.Offset, r.Length = int64(le.Uint64(b[21:])), le.Uint32(b[29:])
	case Write, WriteData, Clear, Delete, Sound:
	}
	return b[size:], nil
}

func nextExtent(b []byte, r *Record) ([]byte, error) {
	if len(b) < extentRecordSize {
		return nil, fmt.Errorf("%w: write in %d bytes", ErrMalformed, len(b))
	}
	le := binary.LittleEndian
	r.Blocks, r.First = int(le.Uint16(b[1:])), int(le.Uint16(b[3:]))
	r.Replica, r.Logical, r.Extent = le.Uint32(b[5:]), le.Uint32(b[9:]), le.Uint32(b[13:])
	r.Seq, r.Epoch = ident.Seq(le.Uint64(b[17:])), ident.Epoch(le.Uint64(b[25:]))
	if r.Blocks == 0 || r.First+r.Blocks > layout.ExtentBlocks {
		return nil, fmt.Errorf("%w: %d blocks from %d", ErrMalformed, r.Blocks, r.First)
	}
	b = b[extentRecordSize:]
	if r.Type == Clear {
		return b, nil
	}
	if len(b) < 4*r.Blocks {
		return nil, fmt.Errorf("%w: checksums end early", ErrMalformed)
	}
	r.CRCs = b[:4*r.Blocks]
	return b[4*r.Blocks:], nil
}

// fixedSize is the size of a record without its variable part.
func fixedSize(t Type) int {
	switch t {
	case Create:
		return createSize
	case SetRecord:
		return 1 + 4 + 2
	case SetGeneration:
		return 1 + 4 + 8
	case Note:
		return noteSize
	case Write, WriteData, Clear:
		return extentRecordSize
	case Delete, Sound:
	}
	return 1 + 4
}
