package story

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// Story is one telling.
type Story struct {
	*Place
	// Say tells people what happens, a line each.
	Say func(format string, args ...any)
	// Show prints a table as it is.
	Show func(text string)
	// MaxStall is how long a write may take across the loss of a storenode; 0 only reports it, for machines that do other
	// work at the same time.
	MaxStall time.Duration

	Facts Facts
}

// Facts are what the steps saw.
type Facts struct {
	// Bound is how long the claims took to be bound and the pods to write.
	Bound, Writing time.Duration
	// KilledNode had the Primary of Shard; its Epoch went from EpochBefore to EpochAfter.
	KilledNode, Shard       string
	EpochBefore, EpochAfter int64
	// LongestWrite is the longest single write at the application, per pod.
	LongestWrite map[string]time.Duration
	// HandOver is the longest write while all storenodes were restarted one by one; 0 if they were not.
	HandOver time.Duration
	// BackInSync is how long it took until every Shard had all its Replicas InSync again.
	BackInSync time.Duration
	// Checked is how many Blocks were compared after the move, per claim.
	Checked map[string]int
	// SpaceBack is how long it took from the deletion until every byte was free again.
	SpaceBack time.Duration
}

// Step is one of the story's.
type Step struct {
	Title string
	Run   func(context.Context) error
}

// Steps are all, in order.
func (s *Story) Steps() []Step {
	return []Step{
		{"Apply Pool and StorageClass; storenodes claim their Devices", s.pool},
		{"Claim a filesystem and a raw block device of 3 replicas", s.claim},
		{"Start pods that write through them and log every acknowledged write", s.startWriters},
		{"Kill (SIGKILL) the storenode that has a Primary, under load", s.kill},
		{"Wait until every Shard has its third Replica back in sync", s.backInSync},
		{"Move the pods to another node and check every byte", s.move},
		{"Delete everything and see the space come back", s.clean},
	}
}

// Run takes all steps.
func (s *Story) Run(ctx context.Context) error {
	for i, step := range s.Steps() {
		s.Say("%d. %s", i+1, step.Title)
		if err := step.Run(ctx); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, step.Title, err)
		}
	}
	return nil
}

// nodes of the lab.
const nodes = 3

func (s *Story) pool(ctx context.Context) error {
	if err := s.apply(ctx, "pool.yaml", nil); err != nil {
		return err
	}
	err := s.until(ctx, 90*time.Second, "3 ready Devices", func(ctx context.Context) error {
		var pool v1alpha1.Pool
		if err := s.Get(ctx, &pool, "pools.shale.dev", "lab"); err != nil {
			return err
		}
		if pool.Status.ReadyDevices != nodes {
			return fmt.Errorf("pool has %d ready devices", pool.Status.ReadyDevices)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.show(ctx, "pools,devices,storenodes")
}

// show prints what kubectl tells people.
func (s *Story) show(ctx context.Context, kinds string) error {
	out, err := s.Kubectl(ctx, nil, "get", kinds)
	if err != nil {
		return err
	}
	s.Show("$ kubectl get " + kinds + "\n" + string(out))
	return nil
}

// Summary is the Facts for people.
func (f *Facts) Summary() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("claims bound after %s, pods wrote after %s more", brief(f.Bound), brief(f.Writing))
	line("storenode on %s killed: shard %s went from epoch %d to %d", f.KilledNode, f.Shard, f.EpochBefore, f.EpochAfter)
	for _, claim := range claims {
		line("%-6s longest write across the kill %s, no error; %d blocks compared on another node, 0 lost",
			claim, brief(f.LongestWrite[claim]), f.Checked[claim])
	}
	line("all Replicas back in sync after %s, space back after %s", brief(f.BackInSync), brief(f.SpaceBack))
	if f.HandOver > 0 {
		line("all storenodes restarted one by one: longest write %s, no error", brief(f.HandOver))
	}
	return b.String()
}

func brief(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
