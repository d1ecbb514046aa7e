// Command chaos lets faults of the kinds in hack/chaos/plan fall on a real Kubernetes of three nodes on this machine,
// from a seed, while pods write through Shale to raw block devices. It exits 0 only if every acknowledged byte was
// there whenever it was read and at the end, no I/O failed but on a node that lost its power, everything came back in
// sync after each fault, and all space was free at the end.
//
//	go run ./hack/chaos -minutes 60 [-seed 42]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/hack/chaos/plan"
	"github.com/shale-storage/shale/hack/chaos/storm"
	"github.com/shale-storage/shale/hack/lab"
	"github.com/shale-storage/shale/hack/story"
)

func main() {
	minutes := flag.Float64("minutes", 5, "how long faults come")
	seed := flag.Uint64("seed", 0, "draws the faults; 0 draws the seed")
	sameCRC := flag.Bool("same-crc", false, "write blocks that all have the same CRC32C")
	flag.Parse()
	if *seed == 0 {
		*seed = 1 + rand.Uint64N(1e6)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, *seed, time.Duration(*minutes*float64(time.Minute)), *sameCRC)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nchaos failed: %v\nthe same faults again: make chaos SEED=%d MINUTES=%g\n",
			err, *seed, *minutes)
		os.Exit(1)
	}
	fmt.Printf("Nothing was lost. The same faults again: make chaos SEED=%d MINUTES=%g\n", *seed, *minutes)
}

func run(ctx context.Context, seed uint64, duration time.Duration, sameCRC bool) error {
	began := time.Now()
	say := func(format string, args ...any) {
		now := time.Now()
		fmt.Printf("[%s %5.0fs] %s\n", now.Format("15:04:05"), now.Sub(began).Seconds(), fmt.Sprintf(format, args...))
	}
	say("Seed %d, %s of faults", seed, duration)
	leftOut, err := notSurvivedHere()
	if err != nil {
		return err
	}
	for _, kind := range leftOut {
		say("This kernel is too old for %q: it never comes", kind)
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	place, err := story.Start(ctx, story.Options{Dir: lab.DefaultDir, SSDSize: storm.SSDSize, Say: say, Log: quiet})
	if err != nil {
		return err
	}
	drawn := plan.New(seed, len(place.Nodes()), leftOut...)
	s := &storm.Storm{Place: place, Plan: drawn, Say: say, SameCRC: sameCRC}
	failed := s.Run(ctx, duration)
	ctx = context.WithoutCancel(ctx)
	fmt.Print("\n", s.Summary())
	if failed != nil {
		dir := filepath.Join("/var/tmp", fmt.Sprintf("shale-chaos-%d-%s", seed, began.Format("150405")))
		failed = errors.Join(failed, s.Save(ctx, dir), fmt.Errorf("what happened is kept in %s", dir))
	}
	return errors.Join(failed, place.Down(ctx))
}

// notSurvivedHere are the kinds that devices do not survive on this machine: a kernel before 6.9 does not send again
// what a dead initiator had not answered.
func notSurvivedHere() ([]plan.Kind, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("ask for kernel: %w", err)
	}
	var major, minor int
	release := unix.ByteSliceToString(name.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return nil, fmt.Errorf("read release of kernel %q: %w", release, err)
	}
	if major > 6 || major == 6 && minor >= 9 {
		return nil, nil
	}
	return []plan.Kind{plan.KillInitiator}, nil
}
