package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// kind of a log entry.
type kind byte

const (
	sent         kind = 1
	acknowledged kind = 2
)

// entrySize: kind, Block, version.
const entrySize = 9

// state of one Block as the log tells.
type state struct {
	acknowledged, sent uint32
}

// ackLog is appended to with one write a time, so that the end of the process loses nothing that was noted.
type ackLog struct{ file *os.File }

func openLog(path string) (*ackLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &ackLog{f}, nil
}

func (l *ackLog) note(k kind, block, version uint32) error {
	var b [entrySize]byte
	b[0] = byte(k)
	binary.LittleEndian.PutUint32(b[1:], block)
	binary.LittleEndian.PutUint32(b[5:], version)
	if _, err := l.file.Write(b[:]); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	return nil
}

// readLog is what a log tells of each Block. A log that does not exist tells nothing.
func readLog(path string) (map[uint32]state, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[uint32]state{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	blocks := map[uint32]state{}
	for ; len(content) >= entrySize; content = content[entrySize:] {
		block, version := binary.LittleEndian.Uint32(content[1:]), binary.LittleEndian.Uint32(content[5:])
		s := blocks[block]
		switch kind(content[0]) {
		case acknowledged:
			s.acknowledged = max(s.acknowledged, version)
		case sent:
			s.sent = max(s.sent, version)
		default:
			return nil, fmt.Errorf("read log %s: entry of kind %d", path, content[0])
		}
		blocks[block] = s
	}
	if len(content) > 0 {
		return nil, fmt.Errorf("read log %s: %d bytes left over", path, len(content))
	}
	return blocks, nil
}
