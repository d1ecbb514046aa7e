package budget_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/budget"
)

func TestQuantilesAreThoseOfASortedListAQuarterAtMostTooHigh(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var l budget.Latencies
		var all []time.Duration
		for range 1 + r.IntN(2000) {
			d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
			all = append(all, d)
			l.Add(d)
		}
		slices.Sort(all)
		for _, part := range []float64{0.5, 0.99} {
			want := all[len(all)-int(float64(len(all))*(1-part))-1]
			got := l.Quantile(part)
			if got < want || got > want+want/4+2*time.Microsecond {
				t.Fatalf("quantile %v of %d is %v, really %v", part, len(all), got, want)
			}
		}
	}
	var l budget.Latencies
	l.Add(time.Hour)
	l.Add(-1)
	if l.Quantile(0.99) < time.Minute/2 || l.Count() != 2 {
		t.Errorf("an hour counts as %v", l.Quantile(0.99))
	}
}

// disk is a dumb model of a Device that clients and a Rebuild share: latency grows with the copied bytes a second.
type disk struct {
	now      time.Duration
	copied   float64
	capacity float64
}

// run lets time pass with clients at work, or not, and gives the p99 of what they saw.
func (d *disk) run(b *budget.Budget, until time.Duration, clients, rebuilds bool) time.Duration {
	const tick, piece = 10 * time.Millisecond, 128 << 10
	var seen, window budget.Latencies
	for end := d.now + until; d.now < end; d.now += tick {
		taken := 0.0
		for rebuilds && taken+d.copied < 4*d.capacity*tick.Seconds() && b.Take(d.now, piece) {
			taken += piece
		}
		d.copied = d.copied*0.8 + taken*0.2
		load := min(d.copied/tick.Seconds()/d.capacity, 0.95)
		for i := 0; clients && i < 50; i++ {
			latency := time.Duration(float64(time.Millisecond) * (0.8 + 0.4*float64(i)/50) / (1 - load))
			seen.Add(latency)
			window.Add(latency)
		}
		b.Observe(d.now, &window)
	}
	return seen.Quantile(0.99)
}

func TestClientsAtWorkAreNotTwiceAsSlowDuringARebuild(t *testing.T) {
	d := &disk{capacity: 1 << 30}
	b := budget.New(0)
	without := d.run(b, 20*time.Second, true, false)
	d.run(b, 2*time.Second, true, true) // it finds its rate
	during := d.run(b, 60*time.Second, true, true)
	if during > 2*without {
		t.Errorf("p99 is %v during a rebuild, %v without", during, without)
	}
	if rate := b.Rate(); rate < 64<<20 {
		t.Errorf("the rebuild is given %d MiB/s of 1024", rate>>20)
	}
}

func TestARebuildBesideClientsAtRestTakesAllThereIs(t *testing.T) {
	d := &disk{capacity: 1 << 30}
	b := budget.New(0)
	d.run(b, 20*time.Second, false, true)
	if rate := b.Rate(); rate < 1<<30 {
		t.Errorf("the rebuild is given %d MiB/s", rate>>20)
	}
	d.run(b, time.Second, false, false)
	if rate := b.Rate(); rate > 32<<20 {
		t.Errorf("the next one begins with %d MiB/s", rate>>20)
	}
}

func TestARebuildThatWasAlwaysThereStillYields(t *testing.T) {
	d := &disk{capacity: 256 << 20}
	b := budget.New(0)
	d.run(b, 30*time.Second, true, true)
	if p99 := d.run(b, 30*time.Second, true, true); p99 > 3*time.Millisecond {
		t.Errorf("p99 is %v, 1.2 ms without a rebuild", p99)
	}
}

func TestNoClientMakesARebuildSlowerThanTheLeast(t *testing.T) {
	b := budget.New(0)
	var l budget.Latencies
	for now := time.Duration(0); now < time.Minute; now += 100 * time.Millisecond {
		b.Take(now, 1)
		for range 20 {
			l.Add(now)
		}
		b.Observe(now, &l)
	}
	if b.Rate() < budget.MinRate {
		t.Errorf("%d bytes a second", b.Rate())
	}
}

func TestAnEstimateIsWhatTheRestTakesAtTheSpeedSoFar(t *testing.T) {
	var e budget.Estimate
	if _, ok := e.Left(); ok {
		t.Error("it knows the future without a past")
	}
	e.See(10*time.Second, 1000)
	e.See(20*time.Second, 2000)
	if left, ok := e.Left(); !ok || left != 80*time.Second {
		t.Errorf("%v left, %v", left, ok)
	}
	e.See(30*time.Second, 500) // another attempt
	if _, ok := e.Left(); ok {
		t.Error("the former attempt still counts")
	}
}
