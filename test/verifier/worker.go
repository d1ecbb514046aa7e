package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"time"

	"github.com/shale-storage/shale/test/verifier/history"
)

// Of shareOf operations so many are reads and flushes, the rest writes; hotShare of them fall on the first hotBlocks.
const (
	shareOf   = 20
	reads     = 5
	flushes   = 1
	hotShare  = 4
	hotBlocks = 48
)

// disk is what a worker writes to: a file or a block device.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// worker does one operation after the other.
type worker struct {
	index  int
	file   disk
	log    *ledger
	tally  *tally
	blocks uint32
	pace   time.Duration
	buffer []byte
	// polynomial of the checksum at the end of each Block.
	polynomial *crc32.Table
}

// settle reads what an earlier run left, so that the History knows which of its last writes happened. Then, if that is
// wanted, it writes all Blocks that never were and flushes.
func (w worker) settle(ctx context.Context, prefill bool) error {
	if err := w.takeBuffer(); err != nil {
		return err
	}
	w.log.mu.Lock()
	known := w.log.past.Blocks()
	w.log.mu.Unlock()
	written := map[uint32]bool{}
	for _, number := range known {
		written[number] = true
		if ctx.Err() != nil {
			break
		}
		if err := w.read(number, 1); err != nil {
			return err
		}
	}
	if !prefill || ctx.Err() != nil {
		return nil //nolint:nilerr // to be told to stop is no failure
	}
	for first := uint32(0); first < w.blocks && ctx.Err() == nil; first++ {
		count := uint32(0)
		for count < maxBlocks && first+count < w.blocks && !written[first+count] {
			count++
		}
		if count == 0 {
			continue
		}
		if err := w.write(first, count); err != nil {
			return err
		}
		first += count - 1
	}
	return w.flush()
}

func (w *worker) takeBuffer() (err error) {
	w.buffer, err = aligned(maxBlocks * blockSize)
	return err
}

func (w worker) run(ctx context.Context) error {
	if err := w.takeBuffer(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := w.any(); err != nil {
			return err
		}
		if w.pace > 0 {
			time.Sleep(w.pace)
		}
	}
	return nil
}

// any operation somewhere.
func (w *worker) any() error {
	count := min(1+rand.Uint32N(maxBlocks), w.blocks)
	room := w.blocks - count + 1
	if rand.IntN(hotShare) == 0 {
		room = min(room, hotBlocks)
	}
	first := rand.Uint32N(room)
	switch n := rand.IntN(shareOf); {
	case n < reads:
		return w.read(first, count)
	case n < reads+flushes:
		return w.flush()
	default:
		return w.write(first, count)
	}
}

func (w *worker) write(first, count uint32) error {
	versions, err := w.log.send(first, count)
	if err != nil {
		return err
	}
	b := w.buffer[:count*blockSize]
	for i, v := range versions {
		fill(b[i*blockSize:][:blockSize], first+uint32(i), v, w.polynomial)
	}
	began := time.Now()
	w.tally.begin(w.index)
	if _, err := w.file.WriteAt(b, int64(first)*blockSize); err != nil {
		_ = w.log.end(history.Failed, first, versions) // the run ends with the first error
		return fmt.Errorf("write blocks %d to %d after %s: %w", first, first+count-1, since(began), err)
	}
	w.tally.end(w.index, func(p *progress) *int64 { return &p.Acknowledged })
	return w.log.end(history.Acknowledged, first, versions)
}

func (w *worker) read(first, count uint32) error {
	r := w.log.read(first, count)
	b := w.buffer[:count*blockSize]
	began := time.Now()
	w.tally.begin(w.index)
	if err := readFull(w.file, b, first); err != nil {
		return fmt.Errorf("after %s: %w", since(began), err)
	}
	w.tally.end(w.index, func(p *progress) *int64 { return &p.Reads })
	versions := make([]uint32, count)
	for i := range versions {
		v, err := versionOf(b[i*blockSize:][:blockSize], first+uint32(i))
		if err != nil {
			return fmt.Errorf("LOST: %w", err)
		}
		versions[i] = v
	}
	return w.log.found(r, versions)
}

func (w *worker) flush() error {
	began := time.Now()
	w.tally.begin(w.index)
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("flush after %s: %w", since(began), err)
	}
	w.tally.end(w.index, func(p *progress) *int64 { return &p.Flushes })
	return nil
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
