package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

// Limits of the encoded structures.
const (
	// MaxName bounds names and addresses, in bytes.
	MaxName = 255
	// MaxShards bounds the Shards of a Volume.
	MaxShards = 65536
	// MaxPageShards bounds the records of one MapPage, so that it always fits MaxPayload.
	MaxPageShards = 256
	// MaxTail bounds the records of a Tail.
	MaxTail = 1024
)

// Role says who a connection's other end is.
type Role uint8

// The roles.
const (
	RoleClient Role = iota + 1
	RoleStoreNode
)

// Hello is the payload of OpHello, the first frame each way.
type Hello struct {
	Role Role
	// Name of the node, for logs.
	Name string
	// Address at which a storenode is reached; empty for clients.
	Address string
	// Incarnation is drawn at random by each process, so that a peer notices a restart.
	Incarnation uint64
}

// Append encodes h behind b.
func (h *Hello) Append(b []byte) []byte {
	b = append(b, byte(h.Role))
	b = appendString(b, h.Name)
	b = appendString(b, h.Address)
	return binary.LittleEndian.AppendUint64(b, h.Incarnation)
}

// Decode reads b, all of it.
func (h *Hello) Decode(b []byte) error {
	r := reader{rest: b}
	h.Role = Role(r.byte())
	h.Name, h.Address, h.Incarnation = r.string(), r.string(), r.uint64()
	if h.Role != RoleClient && h.Role != RoleStoreNode {
		r.fail("role %d", h.Role)
	}
	return r.end("hello")
}

// AppendRecord encodes a membership record behind b.
func AppendRecord(b []byte, m membership.Record) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(m.Epoch))
	b = le.AppendUint32(b, uint32(m.Primary))
	b = append(b, byte(len(m.InSync)), byte(len(m.Replicas)))
	for _, id := range m.InSync {
		b = le.AppendUint32(b, uint32(id))
	}
	for _, c := range m.Replicas {
		b = le.AppendUint32(b, uint32(c.ID))
		b = append(b, c.Device[:]...)
		b = appendString(b, c.Address)
	}
	return b
}

// DecodeRecord reads b, all of it.
func DecodeRecord(b []byte) (membership.Record, error) {
	r := reader{rest: b}
	m := r.record()
	return m, r.end("membership record")
}

// MapPage is a part of a Volume's map: the records of the Shards from First on. A client asks for the next page until
// it has Shards of them.
type MapPage struct {
	Volume          ident.UUID
	Size, ShardSize int64
	Generation      ident.Generation
	// Shards of the whole Volume.
	Shards  uint32
	First   uint32
	Records []membership.Record
}

// Append encodes p behind b.
func (p *MapPage) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, p.Volume[:]...)
	b = le.AppendUint64(b, uint64(p.Size))
	b = le.AppendUint64(b, uint64(p.ShardSize))
	b = le.AppendUint64(b, uint64(p.Generation))
	b = le.AppendUint32(b, p.Shards)
	b = le.AppendUint32(b, p.First)
	b = le.AppendUint16(b, uint16(len(p.Records)))
	for _, m := range p.Records {
		b = AppendRecord(b, m)
	}
	return b
}

// Decode reads b, all of it.
func (p *MapPage) Decode(b []byte) error {
	r := reader{rest: b}
	copy(p.Volume[:], r.take(len(p.Volume)))
	p.Size, p.ShardSize = int64(r.uint64()), int64(r.uint64())
	p.Generation = ident.Generation(r.uint64())
	p.Shards, p.First = r.uint32(), r.uint32()
	n := int(r.uint16())
	p.Records = nil
	switch {
	case p.Shards > MaxShards:
		r.fail("%d shards", p.Shards)
	case n > MaxPageShards || uint64(p.First)+uint64(n) > uint64(p.Shards):
		r.fail("%d records from %d of %d", n, p.First, p.Shards)
	case p.Size <= 0 || p.ShardSize <= 0 || p.Size%ident.BlockSize != 0 || p.ShardSize%ident.BlockSize != 0:
		r.fail("size %d in shards of %d", p.Size, p.ShardSize)
	}
	for i := 0; i < n && r.err == nil; i++ {
		p.Records = append(p.Records, r.record())
	}
	return r.end("volume map")
}

// TailRecord is one recent write, for reconciling.
type TailRecord struct {
	Seq    ident.Seq
	Epoch  ident.Epoch
	Offset uint64
	Length uint32
}

const tailRecordSize = 28

// AppendTail encodes the records behind b; those beyond MaxTail must not be there.
func AppendTail(b []byte, tail []TailRecord) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(tail)))
	for _, t := range tail {
		b = le.AppendUint64(b, uint64(t.Seq))
		b = le.AppendUint64(b, uint64(t.Epoch))
		b = le.AppendUint64(b, t.Offset)
		b = le.AppendUint32(b, t.Length)
	}
	return b
}

// DecodeTail reads b, all of it, appending to into.
func DecodeTail(b []byte, into []TailRecord) ([]TailRecord, error) {
	r := reader{rest: b}
	n := int(r.uint32())
	if n > MaxTail || n*tailRecordSize != len(r.rest) {
		r.fail("%d records in %d bytes", n, len(r.rest))
	}
	for i := 0; i < n && r.err == nil; i++ {
		into = append(into, TailRecord{
			Seq: ident.Seq(r.uint64()), Epoch: ident.Epoch(r.uint64()), Offset: r.uint64(), Length: r.uint32(),
		})
	}
	return into, r.end("tail")
}

// MaxDigests bounds the entries of an OpChecksum answer.
const MaxDigests = 4096

// ExtentDigest is an allocated Extent of a Replica: its index, the Epoch of its last write, and a digest of its
// written-bitmap and checksums.
type ExtentDigest struct {
	Index  uint32
	Epoch  ident.Epoch
	Digest uint64
}

const digestSize = 20

// AppendDigests encodes the entries behind b; those beyond MaxDigests must not be there.
func AppendDigests(b []byte, digests []ExtentDigest) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(digests)))
	for _, d := range digests {
		b = le.AppendUint32(b, d.Index)
		b = le.AppendUint64(b, uint64(d.Epoch))
		b = le.AppendUint64(b, d.Digest)
	}
	return b
}

// DecodeDigests reads b, all of it, appending to into. Indexes must ascend.
func DecodeDigests(b []byte, into []ExtentDigest) ([]ExtentDigest, error) {
	r := reader{rest: b}
	n := int(r.uint32())
	if n > MaxDigests || n*digestSize != len(r.rest) {
		r.fail("%d digests in %d bytes", n, len(r.rest))
	}
	last := int64(-1)
	for i := 0; i < n && r.err == nil; i++ {
		d := ExtentDigest{Index: r.uint32(), Epoch: ident.Epoch(r.uint64()), Digest: r.uint64()}
		if int64(d.Index) <= last {
			r.fail("extent %d behind %d", d.Index, last)
		}
		last = int64(d.Index)
		into = append(into, d)
	}
	return into, r.end("digests")
}

func appendString(b []byte, s string) []byte {
	if len(s) > MaxName {
		s = s[:MaxName]
	}
	return append(append(b, byte(len(s))), s...)
}

// reader takes fields off a payload; after the first error all it gives is zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// end is the outcome: nil only if every byte was used.
func (r *reader) end(what string) error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("%d bytes left over", len(r.rest))
	}
	if r.err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, what, r.err)
	}
	return nil
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.rest) < n {
		r.fail("ends early")
		return make([]byte, min(n, 16))
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

func (r *reader) string() string {
	n := int(r.byte())
	if r.err != nil || len(r.rest) < n {
		r.fail("ends early")
		return ""
	}
	return string(r.take(n))
}

func (r *reader) record() membership.Record {
	var m membership.Record
	m.Epoch, m.Primary = ident.Epoch(r.uint64()), ident.ReplicaID(r.uint32())
	inSync, replicas := int(r.byte()), int(r.byte())
	if inSync > membership.MaxReplicas || replicas > membership.MaxReplicas {
		r.fail("%d in sync of %d replicas, at most %d", inSync, replicas, membership.MaxReplicas)
	}
	for i := 0; i < inSync && r.err == nil; i++ {
		m.InSync = append(m.InSync, ident.ReplicaID(r.uint32()))
	}
	for i := 0; i < replicas && r.err == nil; i++ {
		c := membership.Replica{ID: ident.ReplicaID(r.uint32())}
		copy(c.Device[:], r.take(len(c.Device)))
		c.Address = r.string()
		m.Replicas = append(m.Replicas, c)
	}
	return m
}
