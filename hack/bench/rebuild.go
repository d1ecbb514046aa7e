package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shale-storage/shale/storenode/budget"
	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

// rebuildTime is how long is measured without a Rebuild, before and after each one; budget learns meanwhile what is
// usual, which takes it some seconds.
const rebuildTime = 10 * time.Second

// rebuildLoads are what clients do beside a Rebuild: enough to be felt, and less than there is, as its price is then
// not that of a full queue.
var rebuildLoads = []workload{
	{name: "randwrite-4k-qd4", write: true, random: true, block: 4 << 10, depth: 4},
	{name: "randread-4k-qd4", random: true, block: 4 << 10, depth: 4},
	{name: "randmixed-4k-qd4", write: true, reads: 70, random: true, block: 4 << 10, depth: 4},
}

// rebuilds measures what clients feel of Rebuilds. For each load, again and again: a storenode that is Primary of
// nothing is stopped and evicted, all of the Volume is overwritten, the storenode is started on the same Device, and
// the load runs until it is InSync again. Before and after that the same load runs without a Rebuild.
func (o *options) rebuilds(ctx context.Context, dir string) error {
	if shards := int((o.size + o.shardSize - 1) / o.shardSize); o.replicas <= shards {
		return fmt.Errorf("%d replicas: a rebuild of one that is primary of none of %d shards needs more", o.replicas, shards)
	}
	o.memory = buffer.New(clientMemory)
	progress("starting %d storenodes in %s", o.replicas, dir)
	s, err := openShale(ctx, o, dir)
	if err != nil {
		return err
	}
	var lines []string
	err = o.overwrite(s)
	for _, w := range rebuildLoads {
		if err != nil || !strings.Contains(w.name, o.only) {
			continue
		}
		var met *rebuildResult
		if met, err = o.rebuildsUnder(ctx, s, w); err == nil {
			ended := met.lines(w)
			progress("%s", strings.Join(ended, "\n"))
			lines = append(lines, ended...)
		}
	}
	if err = errors.Join(err, s.close()); err != nil {
		return err
	}
	for _, line := range lines {
		figures, _, _ := strings.Cut(line, " #")
		fmt.Println(figures)
	}
	return nil
}

// rebuildResult is what one load met in all rounds.
type rebuildResult struct {
	// during Rebuilds; degraded while one Replica was away; without: all in sync, one more than there were Rebuilds.
	during, degraded, without []result
	// took is how long each Rebuild took, rate how many bytes a second it copied.
	took []time.Duration
	rate []float64
}

func (o *options) rebuildsUnder(ctx context.Context, s *shale, w workload) (*rebuildResult, error) {
	met := &rebuildResult{}
	calm, err := o.one(s, s, w)
	if err != nil {
		return nil, fmt.Errorf("%s without a rebuild: %w", w.name, err)
	}
	met.without = append(met.without, calm)
	for range o.rounds {
		if err := o.rebuildOnce(ctx, s, w, met); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		n := len(met.during) - 1
		progress("%s: p99 %s, %s while one was away, %s during the rebuild of %s at %.0f MB/s, %s after it", w.name,
			micro(met.without[n].p99), micro(met.degraded[n].p99), micro(met.during[n].p99),
			met.took[n].Round(time.Millisecond), met.rate[n]/1e6, micro(met.without[n+1].p99))
	}
	return met, nil
}

// rebuildOnce is one round.
func (o *options) rebuildOnce(ctx context.Context, s *shale, w workload, met *rebuildResult) error {
	if err := s.takeAway(ctx); err != nil {
		return err
	}
	if err := o.overwrite(s); err != nil {
		return err
	}
	degraded, err := o.one(s, s, w) // what is usual would be that of the overwriting otherwise
	if err != nil {
		return fmt.Errorf("while one is away: %w", err)
	}
	during, err := o.duringRebuild(ctx, s, w, met)
	if err != nil {
		return fmt.Errorf("during the rebuild: %w", err)
	}
	after, err := o.one(s, s, w)
	if err != nil {
		return fmt.Errorf("after the rebuild: %w", err)
	}
	met.degraded, met.during = append(met.degraded, degraded), append(met.during, during)
	met.without = append(met.without, after)
	return nil
}

// overwrite makes all of the Volume other than it was.
func (o *options) overwrite(s *shale) error {
	if _, err := o.drive(s, filling, whole); err != nil {
		return fmt.Errorf("overwrite: %w", err)
	}
	return nil
}

// takeAway stops the last storenode and waits until it is evicted.
func (s *shale) takeAway(ctx context.Context) error {
	c := s.children[len(s.children)-1]
	s.keeper.leaves(c)
	s.children = s.children[:len(s.children)-1]
	if err := c.stop(); err != nil {
		return err
	}
	last := ident.ReplicaID(len(s.children) + 1)
	err := s.keeper.wait(ctx, patience, func(r *membership.Record) bool { return !r.IsInSync(last) })
	if err != nil {
		return fmt.Errorf("wait for the eviction of replica %d: %w", last, err)
	}
	return nil
}

// bringBack starts it again on its Device.
func (s *shale) bringBack(ctx context.Context, o *options) error {
	path := filepath.Join(filepath.Dir(s.children[0].path), fmt.Sprintf("n%d.img", len(s.children)+1))
	c, err := startChild(ctx, o, s.keeper, path)
	if err != nil {
		return err
	}
	s.children = append(s.children, c)
	s.keeper.returns(c)
	return nil
}

// duringRebuild brings the storenode back and measures until it is InSync everywhere.
func (o *options) duringRebuild(ctx context.Context, s *shale, w workload, met *rebuildResult) (result, error) {
	before, err := s.rebuilt()
	if err != nil {
		return result{}, err
	}
	if err := s.bringBack(ctx, o); err != nil {
		return result{}, err
	}
	limit := time.Duration(o.size/budget.MinRate)*time.Second + patience
	began := time.Now()
	load := o.begin(s, w, limit)
	last := ident.ReplicaID(len(s.children))
	failed := s.keeper.wait(ctx, limit, func(r *membership.Record) bool { return r.IsInSync(last) })
	took := time.Since(began)
	load.end()
	during, err := load.wait(0)
	if failed != nil {
		return result{}, failed
	}
	if err != nil {
		return result{}, err
	}
	after, err := s.rebuilt()
	if err != nil {
		return result{}, err
	}
	if int64(after-before) < o.size {
		return result{}, fmt.Errorf("only %d of %d bytes were copied: this was no whole rebuild", after-before, o.size)
	}
	met.took, met.rate = append(met.took, took), append(met.rate, float64(after-before)/took.Seconds())
	return during, nil
}

// rebuilt is how many bytes the Primaries' storenodes have copied.
func (s *shale) rebuilt() (uint64, error) {
	var all uint64
	for _, c := range s.children {
		a, err := c.ask(order{})
		if err != nil {
			return 0, err
		}
		all += a.Rebuilt
	}
	return all, nil
}

// lines are NAME DURING WITHOUT RATIO, in microseconds, and NAME MB/s SECONDS; behind # what helps to understand them.
// Each Rebuild is held against what was right before and right after it, as the machine may change from round to round;
// all figures are medians of the rounds.
func (m *rebuildResult) lines(w workload) []string {
	var without []time.Duration
	var ratios []float64
	for i, d := range m.during {
		calm := (m.without[i].p99 + m.without[i+1].p99) / 2
		without, ratios = append(without, calm), append(ratios, float64(d.p99)/float64(calm))
	}
	return []string{
		fmt.Sprintf("rebuild-p99-%s %d %d %.3f # each rebuild %.2f; p99 %s while one was away; %.0f/s during, %.0f/s without",
			w.name, middle(p99s(m.during)).Microseconds(), middle(without).Microseconds(), middle(ratios), ratios,
			micro(middle(p99s(m.degraded))), medianOf(m.during).perSecond, medianOf(m.without).perSecond),
		fmt.Sprintf("rebuild-speed-%s %.1f %.1f", w.name, middle(m.rate)/1e6, middle(m.took).Seconds()),
	}
}

func p99s(all []result) []time.Duration {
	var p []time.Duration
	for _, r := range all {
		p = append(p, r.p99)
	}
	return p
}

// middle is the median, and leaves the order as it is.
func middle[T float64 | time.Duration](all []T) T {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

func micro(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
