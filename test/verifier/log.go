package main

import (
	"fmt"
	"os"
	"sync"

	"github.com/shale-storage/shale/test/verifier/history"
)

// ledger is the log with the History that it tells. Safe for concurrent use.
type ledger struct {
	mu   sync.Mutex
	file *os.File
	past *history.History
}

// openLedger continues the log at path.
func openLedger(path string) (*ledger, error) {
	past, err := history.Read(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(info.Size() / history.EntrySize * history.EntrySize) // one cut short by the writer's end
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("continue log: %w", err)
	}
	l := &ledger{file: f, past: past}
	return l, l.noteLocked(history.Entry{Kind: history.Opened})
}

// noteLocked appends with one write, so that the end of the process loses nothing that was noted.
func (l *ledger) noteLocked(entries ...history.Entry) error {
	text := make([]byte, 0, len(entries)*history.EntrySize)
	for _, e := range entries {
		text = e.Append(text)
	}
	if _, err := l.file.Write(text); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	for _, e := range entries {
		if err := l.past.Apply(e); err != nil {
			return fmt.Errorf("note in log: %w", err)
		}
	}
	return nil
}

// send notes that count Blocks from first will be written and says with which versions.
func (l *ledger) send(first, count uint32) ([]uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	versions := make([]uint32, count)
	entries := make([]history.Entry, count)
	for i := range count {
		versions[i] = l.past.Next(first + i)
		entries[i] = history.Entry{Kind: history.Sent, Block: first + i, Version: versions[i]}
	}
	return versions, l.noteLocked(entries...)
}

// end notes the answer to a write.
func (l *ledger) end(kind history.Kind, first uint32, versions []uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := make([]history.Entry, len(versions))
	for i, v := range versions {
		entries[i] = history.Entry{Kind: kind, Block: first + uint32(i), Version: v}
	}
	return l.noteLocked(entries...)
}

// reading is a read that has begun.
type reading struct {
	first, since uint32
	// possible and next were those of each Block when it began.
	possible [][]uint32
	next     []uint32
}

func (l *ledger) read(first, count uint32) reading {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := reading{first: first, since: l.past.Position()}
	for i := range count {
		r.possible = append(r.possible, l.past.Possible(first+i))
		r.next = append(r.next, l.past.Next(first+i))
	}
	return r
}

// found judges the versions that a read found, and notes them.
func (l *ledger) found(r reading, versions []uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var seen []history.Entry
	for i, v := range versions {
		number := r.first + uint32(i)
		switch {
		case l.past.Allows(number, v):
			seen = append(seen, history.Entry{Kind: history.Seen, Block: number, Version: v, Since: r.since})
		case r.allows(i, v) && v < l.past.Next(number):
			// It was overwritten while the read was under way.
		default:
			return fmt.Errorf("LOST: block %d was read with version %d; possible were %v at its begin, now %v are",
				number, v, r.possible[i], l.past.Possible(number))
		}
	}
	return l.noteLocked(seen...)
}

// allows a version that was possible when the read began, or sent since.
func (r reading) allows(i int, v uint32) bool {
	if v >= r.next[i] {
		return true
	}
	for _, p := range r.possible[i] {
		if p == v {
			return true
		}
	}
	return false
}
