package journal

import (
	"encoding/binary"
	"errors"

	"github.com/shale-storage/shale/storenode/layout"
)

// FrameSize in bytes, and FrameRoom, what of it is for records.
const (
	FrameSize = layout.Unit
	FrameRoom = crcAt - headSize

	magic    = 0x464a4853 // "SHJF"
	headSize = 40
	crcAt    = FrameSize - 4
)

// ErrNoFrame says that the bytes are not the frame that was looked for: here the Journal ends.
var ErrNoFrame = errors.New("not this frame")

// Marks are what a frame says besides its records.
type Marks struct {
	// Flushed is the highest frame known to be durable with its data. Boot names the run of the machine.
	Flushed, Boot uint64
}

// Frame is a unit of the Journal.
type Frame struct {
	Number uint64
	Marks
	// Records are the encoded records.
	Records []byte
}

// Room is where the records of a frame in b go.
func Room(b []byte) []byte { return b[headSize:crcAt] }

// Seal makes the FrameSize bytes of b, whose Room holds used bytes of records, a frame.
func Seal(b []byte, salt, number uint64, m Marks, used int) {
	le := binary.LittleEndian
	le.PutUint32(b, magic)
	le.PutUint32(b[4:], uint32(used))
	le.PutUint64(b[8:], salt)
	le.PutUint64(b[16:], number)
	le.PutUint64(b[24:], m.Flushed)
	le.PutUint64(b[32:], m.Boot)
	clear(b[headSize+used : crcAt])
	le.PutUint32(b[crcAt:], layout.CRC(b[:crcAt]))
}

// Open reads the frame with the number from b; Records point into b.
func Open(b []byte, salt, number uint64) (Frame, error) {
	le := binary.LittleEndian
	if len(b) < FrameSize || le.Uint32(b) != magic || le.Uint64(b[8:]) != salt || le.Uint64(b[16:]) != number ||
		layout.CRC(b[:crcAt]) != le.Uint32(b[crcAt:]) {
		return Frame{}, ErrNoFrame
	}
	used := le.Uint32(b[4:])
	if used > FrameRoom {
		return Frame{}, ErrNoFrame
	}
	marks := Marks{Flushed: le.Uint64(b[24:]), Boot: le.Uint64(b[32:])}
	return Frame{Number: number, Marks: marks, Records: b[headSize : headSize+used]}, nil
}
