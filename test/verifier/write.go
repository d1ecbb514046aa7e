package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

type writeOptions struct {
	path, log string
	size      int64
	depth     int
	pace      time.Duration
}

// progress is what write prints every second.
type progress struct {
	// Acknowledged writes since the start.
	Acknowledged int64 `json:"acknowledged"`
	// LongestWriteMillis of one write, and LongestGapMillis without any acknowledgement.
	LongestWriteMillis int64 `json:"longestWriteMillis"`
	LongestGapMillis   int64 `json:"longestGapMillis"`
}

// tally is shared by the workers.
type tally struct {
	mu       sync.Mutex
	progress progress
	last     time.Time
}

func (t *tally) add(began time.Time) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Acknowledged++
	t.progress.LongestWriteMillis = max(t.progress.LongestWriteMillis, now.Sub(began).Milliseconds())
	t.progress.LongestGapMillis = max(t.progress.LongestGapMillis, now.Sub(t.last).Milliseconds())
	t.last = now
}

func (t *tally) print() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return json.NewEncoder(os.Stdout).Encode(t.progress)
}

func write(ctx context.Context, o writeOptions) error {
	blocks := uint32(o.size / blockSize)
	if o.depth < 1 || blocks < uint32(o.depth) {
		return fmt.Errorf("size of %d bytes is less than a block for each of %d writers", o.size, o.depth)
	}
	f, err := openDirect(o.path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // all that counts was acknowledged before
	known, err := readLog(o.log)
	if err != nil {
		return err
	}
	log, err := openLog(o.log)
	if err != nil {
		return err
	}
	defer func() { _ = log.file.Close() }() // each entry was written when it was noted
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &tally{last: time.Now()}
	var workers sync.WaitGroup
	for n := range o.depth {
		w := worker{file: f, log: log, tally: t, first: uint32(n), step: uint32(o.depth), blocks: blocks, pace: o.pace}
		w.versions = w.continueFrom(known)
		workers.Go(func() {
			if err := w.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	report(ctx, t)
	workers.Wait()
	err = t.print()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return err
}

// report prints every second until ctx ends.
func report(ctx context.Context, t *tally) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = t.print() // nobody reads any more: the run itself goes on
		}
	}
}

// worker writes the Blocks first, first+step, … in random order.
type worker struct {
	file                *os.File
	log                 *ackLog
	tally               *tally
	first, step, blocks uint32
	versions            []uint32
	pace                time.Duration
}

// continueFrom are the versions to go on from after an earlier run.
func (w *worker) continueFrom(known map[uint32]state) []uint32 {
	var versions []uint32
	for b := w.first; b < w.blocks; b += w.step {
		versions = append(versions, known[b].sent)
	}
	return versions
}

func (w *worker) run(ctx context.Context) error {
	buffer, err := aligned(blockSize)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		i := rand.IntN(len(w.versions))
		w.versions[i]++
		if err := w.one(buffer, w.first+uint32(i)*w.step, w.versions[i]); err != nil {
			return err
		}
		if w.pace > 0 {
			time.Sleep(w.pace)
		}
	}
	return nil
}

func (w *worker) one(buffer []byte, block, version uint32) error {
	fill(buffer, block, version)
	if err := w.log.note(sent, block, version); err != nil {
		return err
	}
	began := time.Now()
	if _, err := w.file.WriteAt(buffer, int64(block)*blockSize); err != nil {
		return fmt.Errorf("write block %d after %s: %w", block, time.Since(began).Round(time.Millisecond), err)
	}
	w.tally.add(began)
	return w.log.note(acknowledged, block, version)
}

// openDirect opens past the page cache. A file is made if it is missing.
func openDirect(path string, flags int) (*os.File, error) {
	if flags&os.O_RDWR != 0 {
		if info, err := os.Stat(path); err != nil || info.Mode().IsRegular() {
			flags |= os.O_CREATE
		}
	}
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open without cache: %w", err)
	}
	return f, nil
}

// aligned is memory that O_DIRECT takes.
func aligned(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	return b, nil
}
