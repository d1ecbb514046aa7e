package shard

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/replication"
)

func TestALeaseCountsFromWhenItWasAsked(t *testing.T) {
	timing := replication.DefaultTiming()
	var l leases
	l.connected(1000, false)
	if !l.due(1000, timing) {
		t.Fatal("nothing is asked on a new connection")
	}
	answered := replication.Instant(1000).After(timing.Lease / 2)
	if !l.granted(1000, answered, timing) {
		t.Error("the first lease is not told")
	}
	if got, want := l.until.load(), replication.Instant(1000).After(timing.Lease); got != want {
		t.Errorf("lease until %d, want %d", got, want)
	}
	if l.granted(1000, answered, timing) {
		t.Error("a lease that holds was regained")
	}
}

func TestAnswersThatWereNotAskedForGiveNoLease(t *testing.T) {
	timing := replication.DefaultTiming()
	var l leases
	l.connected(1000, false)
	l.due(2000, timing)
	for _, sent := range []replication.Instant{0, 999, 2001, 1 << 62, -1} {
		if l.granted(sent, 2000, timing) || l.until.load() != 0 {
			t.Errorf("an answer to %d gave a lease until %d", sent, l.until.load())
		}
	}
}

func TestARestartEndsTheLease(t *testing.T) {
	timing := replication.DefaultTiming()
	var l leases
	l.connected(1000, false)
	l.due(1000, timing)
	l.granted(1000, 1000, timing)
	l.connected(2000, false)
	if l.until.load() == 0 {
		t.Error("a new connection ended a lease that its process keeps to")
	}
	l.connected(3000, true)
	if l.until.load() != 0 {
		t.Error("the lease of a process that is gone still holds")
	}
}

func TestHeartbeatsKeepTheirPace(t *testing.T) {
	timing := replication.DefaultTiming()
	var l leases
	l.connected(1, false)
	asked := 0
	end := replication.Instant(10 * timing.Heartbeat)
	for now := replication.Instant(1); now < end; now = now.After(timing.Heartbeat / 10) {
		if l.due(now, timing) {
			asked++
		}
	}
	if asked != 10 {
		t.Errorf("asked %d times in 10 heartbeats", asked)
	}
}

func TestASilentPrimaryIsOneThatWasNotHeardForTheGracePeriod(t *testing.T) {
	timing := replication.DefaultTiming()
	l := leases{followed: 1000}
	after := func(d time.Duration) replication.Instant { return replication.Instant(1000).After(timing.Grace + d) }
	if l.silent(after(0), timing) || !l.silent(after(1), timing) {
		t.Error("the period does not begin when it is followed")
	}
	l.answer(1500)
	if l.silent(after(500), timing) || !l.silent(after(501), timing) {
		t.Error("the period does not begin with the last heartbeat")
	}
}

// TestAPromiseOutlastsTheLease plays a pair over a network that delays and loses, with clocks that drift within bounds:
// whenever the asking side believes that it holds a lease, the other side still keeps to its promise.
func TestAPromiseOutlastsTheLease(t *testing.T) {
	timing := replication.DefaultTiming()
	for seed := range uint64(200) {
		chance := rand.New(rand.NewPCG(seed, 1))
		speed := 0.955 + chance.Float64()*0.09 // so that the two differ by less than 10 %
		theirs := func(now replication.Instant) replication.Instant {
			return replication.Instant(float64(now)*speed) + 12345
		}
		var asks, answers leases
		asks.connected(1, false)
		type flying struct{ sent, arrives, back replication.Instant }
		var air []flying
		for now := replication.Instant(1); now < replication.Instant(20*time.Second); now = now.After(10 * time.Millisecond) {
			if asks.due(now, timing) && chance.IntN(3) > 0 {
				to := now.After(time.Duration(chance.Int64N(int64(2 * time.Second))))
				air = append(air, flying{now, to, to.After(time.Duration(chance.Int64N(int64(2 * time.Second))))})
			}
			for _, f := range air {
				if f.arrives <= now && f.arrives > now.After(-10*time.Millisecond) {
					answers.answer(theirs(now))
				}
				if f.back <= now && f.back > now.After(-10*time.Millisecond) && f.back > f.arrives {
					asks.granted(f.sent, now, timing)
				}
			}
			if asks.until.load() > now && theirs(now) > answers.promised.load().After(timing.Grace) {
				t.Fatalf("seed %d: at %d a lease holds until %d, promised at %d, now there %d", seed, now, asks.until.load(),
					answers.promised.load(), theirs(now))
			}
		}
	}
}
