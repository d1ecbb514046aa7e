package history

import (
	"encoding/binary"
	"fmt"
	"os"
)

// Kind of an entry.
type Kind byte

// Kinds. The numbers are in logs.
const (
	// Sent is noted before a write of a Block, Acknowledged after it, Failed instead if it got an error.
	Sent         Kind = 1
	Acknowledged Kind = 2
	Failed       Kind = 3
	// Seen is noted after a read; Since is the position when it began.
	Seen Kind = 4
	// Opened begins a run.
	Opened Kind = 5
)

// Entry of the log.
type Entry struct {
	Kind           Kind
	Block, Version uint32
	// Since is for Seen alone.
	Since uint32
}

// EntrySize in the log: kind, three zeros, Block, version, since; little endian.
const EntrySize = 16

// Append encodes an Entry.
func (e Entry) Append(b []byte) []byte {
	b = append(b, byte(e.Kind), 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, e.Block)
	b = binary.LittleEndian.AppendUint32(b, e.Version)
	return binary.LittleEndian.AppendUint32(b, e.Since)
}

func decode(b []byte) Entry {
	le := binary.LittleEndian
	return Entry{Kind: Kind(b[0]), Block: le.Uint32(b[4:]), Version: le.Uint32(b[8:]), Since: le.Uint32(b[12:])}
}

// Read is the History that a log tells. A log that does not exist tells nothing. An entry cut short at the end was
// being written when its process ended: nothing was sent on its strength, and it is left out.
func Read(path string) (*History, error) {
	content, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read log: %w", err)
	}
	h := New()
	for ; len(content) >= EntrySize; content = content[EntrySize:] {
		if err := h.Apply(decode(content)); err != nil {
			return nil, fmt.Errorf("read log %s, entry %d: %w", path, h.Position()+1, err)
		}
	}
	return h, nil
}
