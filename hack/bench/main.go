package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
)

// clientMemory is the memory for data on its way, in bytes: the raw target's, and the client's own.
const clientMemory = 64 << 20

// usualTime is how long each measurement lasts.
const usualTime = 1500 * time.Millisecond

type options struct {
	storenode, dir, only string
	size, shardSize      int64
	last                 time.Duration
	rounds, replicas     int
	profile              string
	alone, rebuild       bool
	memory               *buffer.Pool
}

func main() {
	var o options
	var mib int64
	flag.StringVar(&o.storenode, "storenode", "", "be a storenode on this file (what the program starts itself as)")
	flag.StringVar(&o.dir, "dir", "/var/tmp", "directory on the disk to be measured; /tmp may be memory")
	flag.StringVar(&o.only, "only", "", "measure only loads whose name contains this")
	flag.Int64Var(&mib, "size-mib", 512, "size of the volume, and of the raw file")
	flag.DurationVar(&o.last, "time", 0, fmt.Sprintf("how long each measurement lasts; 0 for %s, with -rebuild %s",
		usualTime, rebuildTime))
	flag.IntVar(&o.rounds, "rounds", 5, "how often each load is measured")
	flag.IntVar(&o.replicas, "replicas", 3, "replicas of the volume")
	flag.BoolVar(&o.alone, "alone", false, "leave out the raw file, to profile Shale or to count its system calls")
	flag.BoolVar(&o.rebuild, "rebuild", false, "measure what clients feel of a Rebuild instead, see -rounds")
	flag.StringVar(&o.profile, "profile", "", "directory for CPU profiles of all processes")
	flag.Parse()
	o.size, o.shardSize = mib<<20, (mib<<20)/2
	if o.last == 0 {
		o.last = usualTime
		if o.rebuild {
			o.last = rebuildTime
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := errors.Join(o.check(), likeTheCluster())
	if err == nil {
		err = start(ctx, &o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}

// check refuses what would measure nothing.
func (o *options) check() error {
	loads := workloads
	if o.rebuild {
		loads = rebuildLoads
	}
	var names []string
	for _, w := range loads {
		names = append(names, w.name)
	}
	switch {
	case o.rounds < 1:
		return fmt.Errorf("-rounds %d: at least 1 is needed", o.rounds)
	case o.size < 1 || o.last < 0:
		return errors.New("-size-mib and -time must be positive")
	case !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, o.only) }):
		return fmt.Errorf("-only %s: no load has that in its name; there are %s", o.only, strings.Join(names, ", "))
	}
	return nil
}

func start(ctx context.Context, o *options) error {
	end, err := profile(o)
	if err != nil {
		return err
	}
	defer end()
	if o.storenode != "" {
		return serveStorenode(ctx, o.storenode, os.Stdin, os.Stdout)
	}
	dir, err := os.MkdirTemp(o.dir, "shale-bench-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	measure := o.compare
	if o.rebuild {
		measure = o.rebuilds
	}
	return errors.Join(measure(ctx, dir), os.RemoveAll(dir))
}

// compare measures all loads on both targets, in turns.
func (o *options) compare(ctx context.Context, dir string) error {
	o.memory = buffer.New(clientMemory)
	disk, err := openRaw(filepath.Join(dir, "raw.img"), o.size)
	if err != nil {
		return err
	}
	progress("starting %d storenodes in %s", o.replicas, dir)
	s, err := openShale(ctx, o, dir)
	if err != nil {
		return errors.Join(err, disk.close())
	}
	err = o.measure(ctx, s, disk)
	return errors.Join(err, s.close(), disk.close())
}

func (o *options) measure(ctx context.Context, s *shale, disk *raw) error {
	filled := []target{disk, s}
	if o.alone {
		filled = filled[1:]
	}
	for _, on := range filled {
		if _, err := o.drive(on, filling, whole); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	progress("filled %d MiB of each", o.size>>20)
	var lines []string
	for _, w := range workloads {
		if !strings.Contains(w.name, o.only) {
			continue
		}
		var shales, raws []result
		for range o.rounds {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var x result
			if !o.alone {
				var err error
				if x, err = o.one(disk, nil, w); err != nil {
					return fmt.Errorf("%s on the raw file: %w", w.name, err)
				}
			}
			y, err := o.one(s, s, w)
			if err != nil {
				return fmt.Errorf("%s on shale: %w", w.name, err)
			}
			raws, shales = append(raws, x), append(shales, y)
		}
		line := report(w, shales, raws)
		progress("%s", line)
		lines = append(lines, line)
	}
	for _, line := range lines {
		name, _, _ := strings.Cut(line, " #")
		fmt.Println(name)
	}
	return nil
}

func (o *options) one(on target, s *shale, w workload) (result, error) {
	before := s.cpu()
	r, err := o.drive(on, w, o.last)
	r.cpu = s.cpu() - before
	if err == nil {
		err = on.failure()
	}
	return r, err
}

// report is the line of one load: NAME SHALE RAW RATIO, and behind # what helps to understand it.
func report(w workload, shales, raws []result) string {
	s, r := medianOf(shales), medianOf(raws)
	return fmt.Sprintf("%s %.0f %.0f %.3f # median %s, p99 %s, raw %s, %s; %.2f CPU s for 10000", w.name,
		s.perSecond, r.perSecond, s.perSecond/r.perSecond, s.median.Round(time.Microsecond),
		s.p99.Round(time.Microsecond), r.median.Round(time.Microsecond), r.p99.Round(time.Microsecond),
		s.cpu.Seconds()*10000/float64(max(s.done, 1)))
}

// medianOf is the median by speed; it leaves the order as it is.
func medianOf(all []result) result {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b result) int { return int(a.perSecond - b.perSecond) })
	return all[len(all)/2]
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
