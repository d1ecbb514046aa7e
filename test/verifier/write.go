package main

import (
	"context"
	"errors"
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
	log, err := openLedger(o.log)
	if err != nil {
		return err
	}
	defer func() { _ = log.file.Close() }() // each entry was written when it was noted
	t := &tally{last: time.Now(), began: make([]time.Time, o.depth)}
	if o.report != "" {
		if t.report, err = os.OpenFile(o.report, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return fmt.Errorf("open report: %w", err)
		}
		defer func() { _ = t.report.Close() }()
	}
	var reporter sync.WaitGroup
	reporting, stop := context.WithCancel(ctx)
	reporter.Go(func() { t.every(reporting) })
	w := worker{file: f, log: log, tally: t, blocks: blocks, pace: o.pace, polynomial: ieee}
	if o.sameCRC {
		w.polynomial = castagnoli
	}
	err = run(ctx, o, w)
	stop()
	reporter.Wait()
	return errors.Join(err, t.print(err))
}

// run does the whole work until ctx ends, which is no error, or a worker fails.
func run(ctx context.Context, o writeOptions, first worker) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := first.settle(ctx, o.prefill); err != nil {
		return err
	}
	first.tally.ready()
	var workers sync.WaitGroup
	for n := range o.depth {
		w := first
		w.index = n
		workers.Go(func() {
			if err := w.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
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
