package layout

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// ErrCorruptCheckpoint says that an area holds no Checkpoint of this Device.
var ErrCorruptCheckpoint = errors.New("checkpoint is damaged")

// TailLength is how many recent writes are remembered for each Replica.
const TailLength = 256

const (
	tailEntry = 8 + 8 + 8 + 4
	// maxReplicaEntry bounds an encoded Replica: fixed part, record, tail.
	maxReplicaEntry = 128 + 2400 + TailLength*tailEntry
	// lossyBit beside the length of the tail.
	lossyBit = 1 << 15
)

var checkpointMagic = [8]byte{'S', 'H', 'A', 'L', 'E', 'C', 'K', 'P'}

// Copy says which slot of an Extent is in force.
type Copy uint8

// The copies.
const (
	CopyNone Copy = iota
	CopyFirst
	CopySecond
)

// Tail is one recent write of a Replica.
type Tail struct {
	Seq    ident.Seq
	Epoch  ident.Epoch
	Offset int64
	Length uint32
}

// Replica is what a Checkpoint holds of a Replica.
type Replica struct {
	Handle     uint32
	Key        ident.ReplicaKey
	Size       int64
	Generation ident.Generation
	LastSeq    ident.Seq
	Record     membership.Record
	// Tail, oldest first, at most TailLength.
	Tail []Tail
	// Lossy: power was lost, and writes that were not flushed may be missing; until the Replica was made equal to others.
	Lossy bool
}

// Checkpoint is the state of a Device before the frames from Frame on.
type Checkpoint struct {
	Generation uint64
	// Frame is the number of the first frame to replay.
	Frame uint64
	// Boot names the run of the machine that wrote it. Clean: nothing was in flight, and nothing came after. Lossy: a
	// Replica is.
	Boot         uint64
	Clean, Lossy bool
	// Copies has a Copy for each Extent.
	Copies   []Copy
	Replicas []Replica
}

// Encode appends c to b, padded to whole Units.
func (c *Checkpoint) Encode(b []byte, salt uint64) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = append(b, make([]byte, Unit)...)
	for i := 0; i < len(c.Copies); i += 4 {
		var packed byte
		for j, copied := range c.Copies[i:min(i+4, len(c.Copies))] {
			packed |= byte(copied) << (2 * j)
		}
		b = append(b, packed)
	}
	b = le.AppendUint32(b, uint32(len(c.Replicas)))
	for i := range c.Replicas {
		b = c.Replicas[i].append(b)
	}
	length := len(b) - start
	b = append(b, make([]byte, roundUp(int64(length))-int64(length))...)
	head := b[start:]
	copy(head, checkpointMagic[:])
	le.PutUint64(head[8:], salt)
	le.PutUint64(head[16:], c.Generation)
	le.PutUint64(head[24:], c.Frame)
	le.PutUint32(head[32:], uint32(length))
	le.PutUint64(head[40:], c.Boot)
	head[48], head[49] = flag(c.Clean), flag(c.Lossy)
	le.PutUint32(head[36:], checkpointCRC(head, length))
	return b
}

// checkpointCRC covers all but itself.
func checkpointCRC(b []byte, length int) uint32 { return CRC(b[:36]) ^ CRC(b[40:length]) }

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

func (r *Replica) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, r.Handle)
	b = append(b, r.Key.Shard.Volume[:]...)
	b = le.AppendUint32(b, r.Key.Shard.Index)
	b = le.AppendUint32(b, uint32(r.Key.Replica))
	b = le.AppendUint64(b, uint64(r.Size))
	b = le.AppendUint64(b, uint64(r.Generation))
	b = le.AppendUint64(b, uint64(r.LastSeq))
	record := wire.AppendRecord(nil, r.Record)
	b = le.AppendUint16(b, uint16(len(record)))
	b = append(b, record...)
	b = le.AppendUint16(b, uint16(len(r.Tail))|uint16(flag(r.Lossy))*lossyBit)
	for _, t := range r.Tail {
		b = le.AppendUint64(b, uint64(t.Seq))
		b = le.AppendUint64(b, uint64(t.Epoch))
		b = le.AppendUint64(b, uint64(t.Offset))
		b = le.AppendUint32(b, t.Length)
	}
	return b
}

// CheckpointHead reads the generation and the length of the Checkpoint whose first Unit is b.
func CheckpointHead(b []byte, g Geometry, salt uint64) (generation uint64, length int64, err error) {
	le := binary.LittleEndian
	if len(b) < Unit || [8]byte(b[:8]) != checkpointMagic || le.Uint64(b[8:]) != salt {
		return 0, 0, ErrCorruptCheckpoint
	}
	length = int64(le.Uint32(b[32:]))
	if length < Unit || length > g.CheckpointSize {
		return 0, 0, fmt.Errorf("%w: %d bytes long", ErrCorruptCheckpoint, length)
	}
	return le.Uint64(b[16:]), roundUp(length), nil
}

// Decode reads a whole Checkpoint.
func (c *Checkpoint) Decode(b []byte, g Geometry, salt uint64) error {
	generation, padded, err := CheckpointHead(b, g, salt)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	length := int(le.Uint32(b[32:]))
	if int64(len(b)) < padded || checkpointCRC(b, length) != le.Uint32(b[36:]) {
		return fmt.Errorf("%w: checksum differs", ErrCorruptCheckpoint)
	}
	c.Generation, c.Frame = generation, le.Uint64(b[24:])
	c.Boot, c.Clean, c.Lossy = le.Uint64(b[40:]), b[48] == 1, b[49] == 1
	r := fields{rest: b[Unit:length]}
	packed := r.take(int(g.Extents+3) / 4)
	c.Copies = make([]Copy, g.Extents)
	for i := range c.Copies {
		c.Copies[i] = Copy(packed[i/4] >> (2 * (i % 4)) & 3)
		r.bad = r.bad || c.Copies[i] > CopySecond
	}
	n := r.uint32()
	r.bad = r.bad || n > g.MaxReplicas
	c.Replicas = nil
	for i := uint32(0); i < n && !r.bad; i++ {
		c.Replicas = append(c.Replicas, r.replica())
	}
	if r.bad || len(r.rest) > 0 {
		return fmt.Errorf("%w: contents", ErrCorruptCheckpoint)
	}
	return nil
}

// fields takes values off a Checkpoint; once something is bad it gives zeros.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if f.bad || len(f.rest) < n {
		f.bad = true
		return make([]byte, n)
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) uint16() uint16 { return binary.LittleEndian.Uint16(f.take(2)) }
func (f *fields) uint32() uint32 { return binary.LittleEndian.Uint32(f.take(4)) }
func (f *fields) uint64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }

func (f *fields) replica() Replica {
	r := Replica{Handle: f.uint32()}
	copy(r.Key.Shard.Volume[:], f.take(16))
	r.Key.Shard.Index, r.Key.Replica = f.uint32(), ident.ReplicaID(f.uint32())
	r.Size, r.Generation, r.LastSeq = int64(f.uint64()), ident.Generation(f.uint64()), ident.Seq(f.uint64())
	record, err := wire.DecodeRecord(f.take(int(f.uint16())))
	f.bad = f.bad || err != nil || r.Size <= 0
	r.Record = record
	n := int(f.uint16())
	r.Lossy, n = n&lossyBit != 0, n&^lossyBit
	f.bad = f.bad || n > TailLength
	for i := 0; i < n && !f.bad; i++ {
		r.Tail = append(r.Tail, Tail{
			Seq: ident.Seq(f.uint64()), Epoch: ident.Epoch(f.uint64()), Offset: int64(f.uint64()), Length: f.uint32(),
		})
	}
	return r
}
