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
	// settledShift is where the used bytes end, and how far behind the frame Settled is begins.
	settledShift = 16
	maxBehind    = 1<<(32-settledShift) - 1
)

// ErrNoFrame says that the bytes are not the frame that was looked for: here the Journal ends.
var ErrNoFrame = errors.New("not this frame")

// Marks are what a frame says besides its records.
type Marks struct {
	// Flushed is the highest frame known to be durable with its data. Boot names the run of the machine.
	Flushed, Boot uint64
	// Settled is the highest frame all of whose data the Device had taken, durable or not: it is there unless power was
	// lost. 0 if that is not known; below the frame's own number.
	Settled uint64
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
	le.PutUint32(b[4:], uint32(used)|behind(number, m.Settled)<<settledShift)
	le.PutUint64(b[8:], salt)
	le.PutUint64(b[16:], number)
	le.PutUint64(b[24:], m.Flushed)
	le.PutUint64(b[32:], m.Boot)
	clear(b[headSize+used : crcAt])
	le.PutUint32(b[crcAt:], layout.CRC(b[:crcAt]))
}

// behind is how far Settled is behind a frame; 0 if it is not known, or too far.
func behind(number, settled uint64) uint32 {
	if settled == 0 || settled >= number || number-settled > maxBehind {
		return 0
	}
	return uint32(number - settled)
}

// Open reads the frame with the number from b; Records point into b.
func Open(b []byte, salt, number uint64) (Frame, error) {
	le := binary.LittleEndian
	if len(b) < FrameSize || le.Uint32(b) != magic || le.Uint64(b[8:]) != salt || le.Uint64(b[16:]) != number ||
		layout.CRC(b[:crcAt]) != le.Uint32(b[crcAt:]) {
		return Frame{}, ErrNoFrame
	}
	used, behind := le.Uint32(b[4:])&maxBehind, uint64(le.Uint32(b[4:])>>settledShift)
	if used > FrameRoom || behind > number {
		return Frame{}, ErrNoFrame
	}
	marks := Marks{Flushed: le.Uint64(b[24:]), Boot: le.Uint64(b[32:])}
	if behind > 0 {
		marks.Settled = number - behind
	}
	return Frame{Number: number, Marks: marks, Records: b[headSize : headSize+used]}, nil
}
