package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/shale-storage/shale/storenode/ident"
)

// ErrMalformed says that bytes are no frame, or no payload, of ours; the connection they came by must be closed.
var ErrMalformed = errors.New("malformed frame")

const (
	magic   = 0x454c4853 // "SHLE"
	version = 1

	crcAt = HeaderSize - 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC is the checksum of all frames: CRC32C.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Encode writes h into the first HeaderSize bytes of b.
func (h *Header) Encode(b []byte) {
	_ = b[HeaderSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	b[4] = version
	b[5] = byte(h.Opcode)
	le.PutUint16(b[6:], uint16(h.Flags))
	le.PutUint16(b[8:], uint16(h.Status))
	le.PutUint16(b[10:], 0)
	le.PutUint32(b[12:], h.Length)
	le.PutUint64(b[16:], uint64(h.Request))
	le.PutUint64(b[24:], uint64(h.Session))
	copy(b[32:48], h.Shard.Volume[:])
	le.PutUint32(b[48:], h.Shard.Index)
	le.PutUint32(b[52:], h.PayloadLength)
	le.PutUint64(b[56:], uint64(h.Epoch))
	le.PutUint64(b[64:], uint64(h.Generation))
	le.PutUint64(b[72:], h.Snapshot)
	le.PutUint64(b[80:], h.Offset)
	le.PutUint64(b[88:], uint64(h.Seq))
	le.PutUint64(b[96:], uint64(h.Committed))
	le.PutUint32(b[104:], uint32(h.From))
	le.PutUint32(b[108:], uint32(h.To))
	le.PutUint32(b[112:], h.PayloadCRC)
	le.PutUint64(b[116:], 0)
	le.PutUint32(b[crcAt:], CRC(b[:crcAt]))
}

// Decode reads the first HeaderSize bytes of b into h. On an error h is undefined.
func (h *Header) Decode(b []byte) error {
	if len(b) < HeaderSize {
		return fmt.Errorf("%w: header of %d bytes", ErrMalformed, len(b))
	}
	le := binary.LittleEndian
	if le.Uint32(b) != magic {
		return fmt.Errorf("%w: no magic number", ErrMalformed)
	}
	if CRC(b[:crcAt]) != le.Uint32(b[crcAt:]) {
		return fmt.Errorf("%w: header checksum differs", ErrMalformed)
	}
	if b[4] != version {
		return fmt.Errorf("%w: version %d, known is %d", ErrMalformed, b[4], version)
	}
	if le.Uint16(b[10:]) != 0 || le.Uint64(b[116:]) != 0 {
		return fmt.Errorf("%w: reserved bytes are used", ErrMalformed)
	}
	h.Opcode = Opcode(b[5])
	h.Flags = Flags(le.Uint16(b[6:]))
	h.Status = Status(le.Uint16(b[8:]))
	h.Length = le.Uint32(b[12:])
	h.Request = ident.RequestID(le.Uint64(b[16:]))
	h.Session = ident.SessionID(le.Uint64(b[24:]))
	copy(h.Shard.Volume[:], b[32:48])
	h.Shard.Index = le.Uint32(b[48:])
	h.PayloadLength = le.Uint32(b[52:])
	h.Epoch = ident.Epoch(le.Uint64(b[56:]))
	h.Generation = ident.Generation(le.Uint64(b[64:]))
	h.Snapshot = le.Uint64(b[72:])
	h.Offset = le.Uint64(b[80:])
	h.Seq = ident.Seq(le.Uint64(b[88:]))
	h.Committed = ident.Seq(le.Uint64(b[96:]))
	h.From = ident.ReplicaID(le.Uint32(b[104:]))
	h.To = ident.ReplicaID(le.Uint32(b[108:]))
	h.PayloadCRC = le.Uint32(b[112:])
	if h.PayloadLength > MaxPayload {
		return fmt.Errorf("%w: payload of %d bytes, at most %d", ErrMalformed, h.PayloadLength, MaxPayload)
	}
	return nil
}

// IsReply reports whether the frame answers another.
func (h *Header) IsReply() bool { return h.Flags&FlagReply != 0 }
