package storm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shale-storage/shale/hack/chaos/plan"
	"github.com/shale-storage/shale/hack/story"
)

const (
	// SSDSize is small, so that the Devices can be filled.
	SSDSize = 640 << 20
	// settleWithin bounds the time from the end of a fault until all is as before.
	settleWithin = 150 * time.Second
)

// Storm is one run.
type Storm struct {
	*story.Place
	Plan *plan.Plan
	Say  func(format string, args ...any)
	// SameCRC lets writers write Blocks that all have the same CRC32C.
	SameCRC bool

	writers []*writer
	faults  []happened
}

// happened is a fault that was, with the longest operation of any writer from its begin until all was as before.
type happened struct {
	kind    plan.Kind
	stall   time.Duration
	settled time.Duration
}

// Run lets it storm for so long and then compares everything.
func (s *Storm) Run(ctx context.Context, duration time.Duration) error {
	if err := s.begin(ctx); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for end := time.Now().Add(duration); time.Now().Before(end); {
		if err := s.round(ctx, s.Plan.Next()); err != nil {
			return err
		}
	}
	return s.end(ctx)
}

func (s *Storm) round(ctx context.Context, r plan.Round) error {
	if err := sleep(ctx, r.Pause); err != nil {
		return err
	}
	// What ended in the pause is not the next fault's.
	if err := s.settle(ctx, excuse{}); err != nil {
		return fmt.Errorf("before the next fault: %w", err)
	}
	began := time.Now()
	errs := make(chan error, len(r.Faults))
	var names []string
	for i, f := range r.Faults {
		names = append(names, f.String())
		go func() {
			if i == 0 {
				errs <- s.happen(ctx, f)
				return
			}
			if err := sleep(ctx, r.After); err != nil {
				errs <- err
				return
			}
			errs <- unlessNobody(s.happen(ctx, f)) // the first may have ended whom the second would hit
		}()
	}
	what := strings.Join(names, " + ")
	s.Say("%s", what)
	for range r.Faults {
		if err := <-errs; err != nil {
			return fmt.Errorf("fault %q: %w", what, err)
		}
	}
	healed := time.Now()
	if err := s.settle(ctx, excuseOf(r.Faults, s.NodeNames(), began)); err != nil {
		return fmt.Errorf("after %q: %w", what, err)
	}
	stall := s.longest(began)
	s.Say("    longest operation %s, all in sync %s after the end of the fault; %d writes so far",
		brief(stall), brief(time.Since(healed)), s.acknowledged())
	for _, f := range r.Faults {
		s.faults = append(s.faults, happened{f.Kind, stall, time.Since(healed)})
	}
	return nil
}

// Summary is a table of all faults.
func (s *Storm) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %6s %16s %16s\n", "fault", "count", "longest stall", "longest to settle")
	kinds := map[plan.Kind][]happened{}
	for _, h := range s.faults {
		kinds[h.kind] = append(kinds[h.kind], h)
	}
	for _, kind := range plan.Kinds() {
		all := kinds[kind]
		if len(all) == 0 {
			continue
		}
		var stall, settled time.Duration
		for _, h := range all {
			stall, settled = max(stall, h.stall), max(settled, h.settled)
		}
		fmt.Fprintf(&b, "%-28s %6d %16s %16s\n", kind, len(all), brief(stall), brief(settled))
	}
	return b.String()
}

func brief(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// sleep is a pause that an interrupt ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
