package scrub_test

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/scrub"
)

// run asks a Pacer at each tick for a while, and gives how often each Extent was begun.
func run(p *scrub.Pacer, from, until, tick time.Duration, busy func(time.Duration) bool) map[uint32]int {
	begun := map[uint32]int{}
	for now := from; now < until; now += tick {
		if x, ok := p.Next(now, busy(now)); ok {
			begun[x]++
			p.Begun(now)
		}
	}
	return begun
}

func never(time.Duration) bool  { return false }
func always(time.Duration) bool { return true }

func TestEachExtentIsDueOnceInAPeriodIdleOrNot(t *testing.T) {
	for name, busy := range map[string]func(time.Duration) bool{"idle": never, "busy": always} {
		const extents = 100
		p := scrub.New(0, time.Hour, extents, 0, 12345)
		begun := run(p, 0, time.Hour+time.Minute+time.Second, 300*time.Millisecond, busy)
		if len(begun) != extents {
			t.Errorf("%s: %d of %d extents were begun in the period", name, len(begun), extents)
		}
		for x, n := range begun {
			if n > 2 {
				t.Errorf("%s: extent %d was begun %d times", name, x, n)
			}
		}
		if n, _ := p.Passes(); n != 1 {
			t.Errorf("%s: %d passes", name, n)
		}
	}
}

func TestAnExtentWaitsForClientsButNotForEver(t *testing.T) {
	for tick, want := range map[time.Duration]int{
		100 * time.Millisecond: 4, 600 * time.Millisecond: 2, // which is an interval
	} {
		p := scrub.New(0, 100*time.Second, 100, 0, 0)
		puts := 0
		for now := time.Second; ; now += tick {
			if _, ok := p.Next(now, true); ok {
				break
			}
			puts++
		}
		if puts != want {
			t.Errorf("asked every %s, it was put off %d times, want %d", tick, puts, want)
		}
	}
}

func TestAPacerThatWasNotAskedDoesNotRush(t *testing.T) {
	p := scrub.New(0, 1000*time.Second, 1000, 0, 0)
	begun := run(p, 500*time.Second, 510*time.Second, 10*time.Millisecond, never)
	if len(begun) > 21 {
		t.Errorf("%d extents in ten intervals", len(begun))
	}
}

func TestAPassBeginsAnywhereAndGoesRound(t *testing.T) {
	p := scrub.New(0, 10*time.Second, 10, 0, 7)
	x, ok := p.Next(time.Second, false)
	if !ok || x != 7 || p.Percent() != 0 {
		t.Errorf("begins with %d, %v, at %d%%", x, ok, p.Percent())
	}
	for now := time.Second; now <= 20*time.Second; now += time.Second {
		if x, ok = p.Next(now, false); ok {
			p.Begun(now)
		}
		if n, ended := p.Passes(); n == 1 {
			if x != 6 || ended != now || p.Percent() != 0 {
				t.Errorf("the pass ends with extent %d at %v, %d%%", x, ended, p.Percent())
			}
			return
		}
	}
	t.Error("the pass has no end")
}

func TestAllIsLookedThroughThoughNoProcessLivesForAWholePass(t *testing.T) {
	const (
		extents = 100
		pass    = 100 * time.Hour
		life    = 7 * time.Hour
	)
	begun := map[uint32]int{}
	for calendar := time.Duration(0); calendar < pass+life; calendar += life {
		const booted = time.Second // a clock of its own for each process
		p := scrub.New(booted, pass, extents, calendar, 12345)
		for x, n := range run(p, booted, booted+life+time.Minute, time.Minute, never) {
			begun[x] += n
		}
	}
	if len(begun) != extents {
		t.Errorf("%d of %d extents were begun", len(begun), extents)
	}
}
