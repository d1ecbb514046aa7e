package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxBlocks of one operation.
const maxBlocks = 8

type writeOptions struct {
	path, log, report string
	size              int64
	depth             int
	pace              time.Duration
	prefill           bool
	// sameCRC makes Blocks whose CRC32C does not depend on their content.
	sameCRC bool
}

// write works until ctx ends, which is no error. What goes wrong at any moment is told, also what an operation finds
// that was under way when ctx ended.
func write(ctx context.Context, o writeOptions) error {
	t := &tally{last: time.Now(), began: make([]time.Time, max(o.depth, 0))}
	if o.report != "" {
		var err error
		if t.report, err = os.OpenFile(o.report, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return fmt.Errorf("open report: %w", err)
		}
		defer func() { _ = t.report.Close() }()
	}
	var reporter sync.WaitGroup
	// Lines go on while the last operations take their time.
	reporting, stop := context.WithCancel(context.WithoutCancel(ctx))
	reporter.Go(func() { t.every(reporting) })
	if err := work(ctx, o, t); err != nil {
		t.fail(err)
	}
	stop()
	reporter.Wait()
	return t.finish()
}

// work opens what is needed and runs.
func work(ctx context.Context, o writeOptions, t *tally) error {
	blocks := uint32(o.size / blockSize)
	if o.depth < 1 || blocks < uint32(o.depth) {
		return fmt.Errorf("size of %d bytes is less than a block for each of %d writers", o.size, o.depth)
	}
	f, err := openDirect(o.path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // all that counts was acknowledged before
	log, err := openLedger(o.log)
	if err != nil {
		return err
	}
	defer func() { _ = log.file.Close() }() // each entry was written when it was noted
	w := worker{file: f, log: log, tally: t, blocks: blocks, pace: o.pace, polynomial: ieee}
	if o.sameCRC {
		w.polynomial = castagnoli
	}
	return run(ctx, o, w)
}

// run does the whole work until ctx ends or a worker fails. The tally takes what workers find, each of them, whatever
// came first: a lost write must not be hidden by the I/O error of another worker, or by the end of ctx.
func run(ctx context.Context, o writeOptions, first worker) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := first.settle(ctx, o.prefill); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	first.tally.ready()
	var workers sync.WaitGroup
	for n := range o.depth {
		w := first
		w.index = n
		workers.Go(func() {
			if err := w.run(ctx); err != nil {
				w.tally.fail(err)
				cancel()
			}
		})
	}
	workers.Wait()
	return nil
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
