package liveness

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// room is a Tracker with its clock; its Leases are renewed by hear.
type room struct {
	*Tracker
	clock *clocktesting.FakePassiveClock
	count int
}

func newRoom() *room {
	c := clocktesting.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	return &room{Tracker: New(c), clock: c}
}

func (r *room) pass(d time.Duration) { r.clock.SetTime(r.clock.Now().Add(d)) }

func (r *room) hear(names ...string) {
	r.count++
	for _, n := range names {
		r.Observe(n, Renewal{Holder: n, Renewed: time.Unix(int64(r.count), 0)})
	}
}

// kubelets renew as they do by default.
func (r *room) kubelets(names ...string) {
	r.count++
	for _, n := range names {
		renewed := time.Unix(int64(r.count), 0)
		r.Observe(Kubelet(n), Renewal{Holder: n, Renewed: renewed, Duration: 40 * time.Second})
	}
}

// silent is for how long a kubelet has been.
func (r *room) silent(t *testing.T, name string, want time.Duration) {
	t.Helper()
	if s := r.State(Kubelet(name)); s.Age != want {
		t.Errorf("kubelet of %s: silent for %s, want %s", name, s.Age, want)
	}
}

func (r *room) alive(t *testing.T, want bool, names ...string) {
	t.Helper()
	for _, n := range names {
		if s := r.State(n); s.Alive != want {
			t.Errorf("%s: got %+v, want alive %v", n, s, want)
		}
	}
}

func TestLeaseThatStandsStillExpires(t *testing.T) {
	r := newRoom()
	r.hear("a", "b")
	for range 4 {
		r.pass(time.Second)
		r.hear("b")
	}
	r.alive(t, false, "a")
	r.alive(t, true, "b")
	r.hear("a")
	r.alive(t, true, "a")
}

func TestStorenodeNeverHeardOfLivesForAWhile(t *testing.T) {
	r := newRoom()
	r.alive(t, true, "a")
	r.pass(DefaultDuration)
	r.alive(t, false, "a")
}

func TestSilenceOfAllIsOursAndCountsAgainstNobody(t *testing.T) {
	r := newRoom()
	r.hear("a", "b", "dead")
	for range 5 {
		r.pass(time.Second)
		r.hear("a", "b")
	}
	r.alive(t, false, "dead")
	r.pass(time.Minute) // the API server is away
	r.hear("a")
	r.alive(t, true, "a", "b")
	r.alive(t, false, "dead")
	r.pass(DefaultDuration)
	r.hear("a")
	r.alive(t, true, "b") // nobody was heard for that long: again it was us
	for range 4 {
		r.pass(time.Second)
		r.hear("a")
	}
	r.alive(t, false, "b")
}

// The two come by different watches, of which one may be back before the other.
func TestAKubeletThatIsHeardDoesNotMakeStorenodesSilent(t *testing.T) {
	r := newRoom()
	r.hear("a", Kubelet("a"))
	for range 8 { // the API server is back, and so is the watch of kubelets
		r.pass(time.Second)
		r.hear(Kubelet("a"))
	}
	r.hear("b")
	r.alive(t, true, "a")
}

// Between two renewals of three kubelets there are gaps of many seconds.
func TestKubeletThatIsDeadIsNotForgivenForThePausesOfOthers(t *testing.T) {
	r := newRoom()
	pass := func(seconds int, kubelets map[int]string) {
		for s := range seconds {
			r.hear("a", "b")
			if name, renews := kubelets[s%10]; renews {
				r.kubelets(name)
			}
			r.pass(time.Second)
		}
	}
	pass(20, map[int]string{0: "a", 1: "b", 6: "c"})
	r.silent(t, "c", 4*time.Second)
	pass(20, map[int]string{0: "a", 1: "b"}) // c is dead
	r.silent(t, "c", 24*time.Second)
	pass(10, map[int]string{0: "a"}) // and b is
	r.silent(t, "b", 19*time.Second)
	r.silent(t, "c", 34*time.Second)
}

func TestSilenceOfAllIsNotHeldAgainstKubeletsEither(t *testing.T) {
	r := newRoom()
	r.hear("a")
	r.kubelets("a", "b")
	r.pass(time.Second)
	r.kubelets("a")
	r.pass(8 * time.Second) // the API server is away
	r.hear("a")
	r.silent(t, "b", time.Second)
	r.pass(time.Second)
	r.kubelets("a")
	r.silent(t, "b", 2*time.Second)
	for range 13 { // their watch alone is broken
		r.pass(time.Second)
		r.hear("a")
	}
	r.kubelets("a")
	r.silent(t, "b", 2*time.Second)
}

func TestKubeletsOfWhichNoneIsHeardAreTold(t *testing.T) {
	r := newRoom()
	heard := func(want bool) {
		t.Helper()
		if got := r.HeardKubelet(10 * time.Second); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	r.hear("a")
	heard(false)
	r.kubelets("a")
	heard(true)
	if got := r.State(Kubelet("a")).Pause; got != 10*time.Second {
		t.Errorf("it renews each %s", got)
	}
	for range 10 {
		r.pass(time.Second)
		r.hear("a")
	}
	heard(false)
}
