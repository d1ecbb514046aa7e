package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
)

// Sizes of the format, in bytes.
const (
	// Unit is the smallest thing written.
	Unit = 4096
	// ExtentSize is the unit of allocation; ExtentBlocks the Blocks in it.
	ExtentSize   = ExtentBlocks * ident.BlockSize
	ExtentBlocks = bitmap.Blocks
	// MinDevice is the smallest Device that can be formatted.
	MinDevice = 64 << 20

	secondCopy   = 512 << 10
	journalStart = 1 << 20
	maxJournal   = 256 << 20
	minJournal   = 1 << 20
	// maxPool bounds a Pool's name.
	maxPool = 253
	crcAt   = Unit - 4
)

// version is the format this program writes and reads.
const version = 1

var superblockMagic = [8]byte{'S', 'H', 'A', 'L', 'E', 'D', 'E', 'V'}

// Errors of a Superblock.
var (
	// ErrNotOurs: there is no Superblock.
	ErrNotOurs = errors.New("no superblock of ours")
	// ErrCorruptSuperblock: there is one, and it is damaged.
	ErrCorruptSuperblock = errors.New("superblock is damaged")
	// ErrVersion: a later program formatted the Device.
	ErrVersion = errors.New("unknown format version")
	// ErrTooSmall: the Device cannot hold the format.
	ErrTooSmall = errors.New("device is too small")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC is the checksum of metadata at rest: CRC32C. That of Blocks is in package checksum.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// SuperblockCopies are the places of the copies, in bytes.
func SuperblockCopies() [2]int64 { return [2]int64{0, secondCopy} }

// Superblock says who a Device is and how it is divided.
type Superblock struct {
	UUID ident.UUID
	Pool string
	// Salt is drawn at Format.
	Salt uint64
	Geometry
}

// Geometry is how a Device is divided, in bytes and counts.
type Geometry struct {
	Size, JournalSize, CheckpointSize int64
	Extents, MaxReplicas              uint32
}

// NewGeometry divides a Device of size bytes.
func NewGeometry(size int64) (Geometry, error) {
	if size < MinDevice {
		return Geometry{}, fmt.Errorf("%d bytes, at least %d are needed: %w", size, MinDevice, ErrTooSmall)
	}
	g := Geometry{Size: size / Unit * Unit}
	g.JournalSize = min(max(size/32, minJournal), maxJournal) / Unit * Unit
	g.MaxReplicas = uint32(min(max(size/(64<<20), 16), 1024))
	possible := size / ExtentSize
	g.CheckpointSize = roundUp(Unit + possible/4 + 1 + int64(g.MaxReplicas)*maxReplicaEntry)
	left := g.Size - journalStart - g.JournalSize - 2*g.CheckpointSize
	g.Extents = uint32(left / (ExtentSize + 2*Unit))
	return g, nil
}

// JournalStart is the place of the first frame.
func (g Geometry) JournalStart() int64 { return journalStart }

// Frames is the number of frames of the Journal.
func (g Geometry) Frames() uint64 { return uint64(g.JournalSize / Unit) }

// CheckpointStart is the place of a Checkpoint area, 0 or 1.
func (g Geometry) CheckpointStart(area int) int64 {
	return journalStart + g.JournalSize + int64(area)*g.CheckpointSize
}

// SlotStart is the place of a slot, 0 or 1, of an Extent.
func (g Geometry) SlotStart(extent uint32, slot int) int64 {
	return g.CheckpointStart(2) + (int64(extent)*2+int64(slot))*Unit
}

// ExtentStart is the place of an Extent's first Block.
func (g Geometry) ExtentStart(extent uint32) int64 {
	return g.SlotStart(g.Extents, 0) + int64(extent)*ExtentSize
}

// Capacity is the room for data.
func (g Geometry) Capacity() int64 { return int64(g.Extents) * ExtentSize }

// Encode writes s into the Unit b.
func (s *Superblock) Encode(b []byte) {
	clear(b[:Unit])
	le := binary.LittleEndian
	copy(b, superblockMagic[:])
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], ExtentSize)
	copy(b[16:], s.UUID[:])
	le.PutUint64(b[32:], s.Salt)
	le.PutUint64(b[40:], uint64(s.Size))
	le.PutUint64(b[48:], uint64(s.JournalSize))
	le.PutUint64(b[56:], uint64(s.CheckpointSize))
	le.PutUint32(b[64:], s.Extents)
	le.PutUint32(b[68:], s.MaxReplicas)
	pool := s.Pool[:min(len(s.Pool), maxPool)]
	b[72] = byte(len(pool))
	copy(b[73:], pool)
	le.PutUint32(b[crcAt:], CRC(b[:crcAt]))
}

// Decode reads one copy. Beside its own errors it refuses a geometry that this program would not have made.
func (s *Superblock) Decode(b []byte) error {
	if len(b) < Unit || [8]byte(b[:8]) != superblockMagic {
		return ErrNotOurs
	}
	le := binary.LittleEndian
	if CRC(b[:crcAt]) != le.Uint32(b[crcAt:]) {
		return fmt.Errorf("%w: checksum differs", ErrCorruptSuperblock)
	}
	if v := le.Uint32(b[8:]); v != version {
		return fmt.Errorf("%w: %d, this program knows %d", ErrVersion, v, version)
	}
	copy(s.UUID[:], b[16:32])
	s.Salt = le.Uint64(b[32:])
	s.Size = int64(le.Uint64(b[40:]))
	s.JournalSize, s.CheckpointSize = int64(le.Uint64(b[48:])), int64(le.Uint64(b[56:]))
	s.Extents, s.MaxReplicas = le.Uint32(b[64:]), le.Uint32(b[68:])
	n := int(b[72])
	if n > maxPool {
		return fmt.Errorf("%w: pool name of %d bytes", ErrCorruptSuperblock, n)
	}
	s.Pool = string(b[73 : 73+n])
	want, err := NewGeometry(s.Size)
	if err != nil || want != s.Geometry || le.Uint32(b[12:]) != ExtentSize {
		return fmt.Errorf("%w: divided as %+v, expected %+v", ErrCorruptSuperblock, s.Geometry, want)
	}
	return nil
}

func roundUp(n int64) int64 { return (n + Unit - 1) / Unit * Unit }
