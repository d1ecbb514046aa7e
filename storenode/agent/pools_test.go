package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/shard"
)

// shelf is a node's SSDs: what is at each path. It implements Opener.
type shelf struct {
	ssds              map[string]Found
	served, formatted []string
	released          []ident.UUID
	// broken is why the SSDs do not work.
	broken error
	// hangs is where an SSD does not answer before the channel is closed, opens where it is not open before.
	hangs, opens map[string]chan struct{}
	// ends is what a Release waits for.
	ends chan struct{}
}

func (s *shelf) Probe(path string) (Found, error) {
	if hangs := s.hangs[path]; hangs != nil {
		<-hangs
	}
	found, ok := s.ssds[path]
	if !ok {
		return found, os.ErrNotExist
	}
	return found, nil
}

func (s *shelf) Format(path, pool string) error {
	s.formatted = append(s.formatted, path)
	s.ssds[path] = Found{Content: ContentOurs, UUID: uuid(byte(100 + len(s.formatted))), Pool: pool}
	return nil
}

func (s *shelf) Serve(path string, _ int32) (ident.UUID, error) {
	if opens := s.opens[path]; opens != nil {
		<-opens
	}
	s.served = append(s.served, path)
	return s.ssds[path].UUID, nil
}

func (s *shelf) Usage(ident.UUID) (DeviceUsage, error) {
	return DeviceUsage{Capacity: 1 << 40}, s.broken
}

func (s *shelf) IsThere(id ident.UUID) bool {
	for _, found := range s.ssds {
		if found.UUID == id {
			return true
		}
	}
	return false
}

func (s *shelf) Release(id ident.UUID) error {
	if s.ends != nil {
		<-s.ends
	}
	s.released = append(s.released, id)
	return nil
}

func (h *fakeHost) Health(ident.UUID) shard.Health { return shard.Health{} }

func uuid(n byte) ident.UUID { return ident.UUID{15: n} }

// slot is where an SSD may be.
func slot(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func claimed(n byte, path string) *v1alpha1.Device {
	d := &v1alpha1.Device{Spec: v1alpha1.DeviceSpec{
		UUID: uuid(n).String(), PoolName: "fast", NodeName: "n1", Path: path,
	}}
	d.Name = deviceName(uuid(n))
	return d
}

func selecting(name string, paths ...string) *v1alpha1.Pool {
	p := &v1alpha1.Pool{Spec: v1alpha1.PoolSpec{DeviceSelector: v1alpha1.DeviceSelector{Paths: paths}}}
	p.Name = name
	return p
}

// storenode is the agent of node n1 as far as Devices go.
func storenode(t *testing.T, s *shelf, objects ...client.Object) *pools {
	t.Helper()
	api := kubernetes(t, interceptor.Funcs{}, objects...)
	log := slog.New(slog.DiscardHandler)
	p := &places{api: api, node: "n1", local: map[string]ident.UUID{}}
	return &pools{
		api: api, node: "n1", opener: s, places: p, log: log, served: map[string]serving{},
		attempts: map[string]attempt{}, patience: openPatience, releases: map[ident.UUID]release{},
		rivals: map[string]rival{}, namespace: "shale",
		startup:   newStartup(api, "n1", clock.RealClock{}),
		inService: make(chan event.GenericEvent, maxDevices),
		report: &report{
			api: api, reader: api, host: &fakeHost{}, opener: s, places: p, clock: clock.RealClock{}, node: "n1",
			log: log, errors: map[ident.UUID]*deviceErrors{}, kick: make(chan struct{}, 1),
			away: map[ident.ReplicaKey]away{}, told: map[ident.ShardID]told{},
		},
	}
}

// look at the Devices of a Pool.
func (r *pools) look(t *testing.T, pool string) {
	t.Helper()
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: pool}}); err != nil {
		t.Fatal(err)
	}
}

// said is the reason of the condition Ready of a Device object, empty if there is none.
func (r *pools) said(t *testing.T, name string) string {
	t.Helper()
	var d v1alpha1.Device
	if err := r.api.Get(t.Context(), client.ObjectKey{Name: name}, &d); err != nil {
		return ""
	}
	if c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		return c.Reason
	}
	return ""
}

// A person takes an SSD out of a Pool and wipes it, or the kernel gives its name to another SSD.
func TestEmptySSDIsNotFormattedBecauseADeviceWasThereBefore(t *testing.T) {
	old, wanted := slot(t, "old"), slot(t, "wanted")
	s := &shelf{ssds: map[string]Found{old: {Content: ContentEmpty}, wanted: {Content: ContentEmpty}}}
	r := storenode(t, s, selecting("fast", wanted), claimed(1, old))
	r.look(t, "fast")
	if !slices.Equal(s.formatted, []string{wanted}) {
		t.Errorf("formatted %v, want %s alone", s.formatted, wanted)
	}
	if said := r.said(t, deviceName(uuid(1))); said != v1alpha1.ReasonMissing {
		t.Errorf("the device that was there says %q", said)
	}
	if said := r.said(t, candidateName("n1", old)); said != "" {
		t.Errorf("what no pool selects is told of: %q", said)
	}
}

func TestSSDThatMustNotBeTouchedIsOnlyToldOf(t *testing.T) {
	for want, found := range map[string]Found{
		v1alpha1.ReasonForeignData:       {Content: ContentForeign, What: "an XFS filesystem"},
		v1alpha1.ReasonCorruptSuperblock: {Content: ContentCorrupt, What: "checksum differs"},
		v1alpha1.ReasonOtherPool:         {Content: ContentOurs, UUID: uuid(1), Pool: "slow"},
	} {
		at := slot(t, "ssd")
		s := &shelf{ssds: map[string]Found{at: found}}
		r := storenode(t, s, selecting("fast", at))
		r.look(t, "fast")
		if said := r.said(t, candidateName("n1", at)); said != want {
			t.Errorf("it says %q, want %q", said, want)
		}
		if len(s.formatted)+len(s.served) > 0 {
			t.Errorf("%s: formatted %v, served %v", want, s.formatted, s.served)
		}
	}
}

func TestDevicesOfAPoolThatIsGoneOrCannotBeReadAreServed(t *testing.T) {
	for story, pool := range map[string][]client.Object{
		"deleted":     nil,
		"bad pattern": {selecting("fast", "/dev/nvme[0")},
	} {
		at := slot(t, "ssd")
		s := &shelf{ssds: map[string]Found{at: {Content: ContentOurs, UUID: uuid(1), Pool: "fast"}}}
		r := storenode(t, s, append(pool, claimed(1, at), claimed(2, at+".gone"))...)
		r.look(t, "fast")
		if !slices.Equal(s.served, []string{at}) {
			t.Errorf("%s: served %v", story, s.served)
		}
		for n, want := range map[byte]string{1: v1alpha1.ReasonServing, 2: v1alpha1.ReasonMissing} {
			if said := r.said(t, deviceName(uuid(n))); said != want {
				t.Errorf("%s: device %d says %q, want %q", story, n, said, want)
			}
		}
	}
}

func TestDeviceThatTwoPoolsSelectStaysWithTheFirst(t *testing.T) {
	at := slot(t, "ssd")
	s := &shelf{ssds: map[string]Found{at: {Content: ContentEmpty}}}
	r := storenode(t, s, selecting("fast", at), selecting("slow", at))
	r.look(t, "fast")
	r.look(t, "slow")
	var d v1alpha1.Device
	err := r.api.Get(t.Context(), client.ObjectKey{Name: deviceName(uuid(101))}, &d)
	if err != nil || d.Spec.PoolName != "fast" {
		t.Errorf("the device says it is of pool %q, %v", d.Spec.PoolName, err)
	}
	if said := r.said(t, candidateName("n1", at)); said != v1alpha1.ReasonOtherPool {
		t.Errorf("the other pool is told %q", said)
	}
}

// An SSD that was copied to another, to replace it, while both are there.
func TestCopyOfADeviceInServiceIsNotServed(t *testing.T) {
	a, b := slot(t, "a"), slot(t, "b")
	ours := Found{Content: ContentOurs, UUID: uuid(1), Pool: "fast"}
	s := &shelf{ssds: map[string]Found{a: ours, b: ours}}
	r := storenode(t, s, selecting("fast", a, b))
	r.look(t, "fast")
	if len(s.served) != 1 {
		t.Errorf("served %v", s.served)
	}
	if said := r.said(t, candidateName("n1", b)); said != v1alpha1.ReasonForeignData {
		t.Errorf("the copy is told of as %q", said)
	}
}

// A long Journal is replayed at one path, and the other leads to the same SSD or to a clone of it.
func TestCopyOfADeviceThatIsBeingOpenedIsNotServed(t *testing.T) {
	a, b := slot(t, "a"), slot(t, "b")
	ours := Found{Content: ContentOurs, UUID: uuid(1), Pool: "fast"}
	s := &shelf{ssds: map[string]Found{a: ours, b: ours}, opens: map[string]chan struct{}{a: make(chan struct{})}}
	r := storenode(t, s, selecting("fast", a, b), claimed(1, a))
	r.patience = 10 * time.Millisecond
	for range 500 { // on a busy machine the look at b takes longer than that, too
		if r.look(t, "fast"); r.said(t, candidateName("n1", b)) == v1alpha1.ReasonForeignData {
			break
		}
	}
	if _, ok := r.served[b]; ok {
		t.Error("both are taken into service")
	}
	if said := r.said(t, candidateName("n1", b)); said != v1alpha1.ReasonForeignData {
		t.Errorf("the copy is told of as %q", said)
	}
	for _, name := range []string{deviceName(uuid(1)), candidateName("n1", a)} {
		if said := r.said(t, name); said != v1alpha1.ReasonOpening {
			t.Errorf("%s says %q", name, said)
		}
	}
	close(s.opens[a])
	r.attempts[a].ended <- <-r.attempts[a].ended // it is open
	r.look(t, "fast")
	if !slices.Equal(s.served, []string{a}) {
		t.Errorf("served %v", s.served)
	}
}

func TestSSDThatIsPulledIsMissingAndServedAgainUnderAnotherName(t *testing.T) {
	a, b := slot(t, "a"), slot(t, "b")
	ours := Found{Content: ContentOurs, UUID: uuid(1), Pool: "fast"}
	s := &shelf{ssds: map[string]Found{a: ours}}
	r := storenode(t, s, selecting("fast", a, b))
	r.look(t, "fast")
	id := ident.ShardID{Index: 3}
	key := ident.ReplicaKey{Shard: id, Replica: 2}
	there := []shard.Status{{Key: key, Device: uuid(1), State: shard.StateInSync, Epoch: 5}}
	r.report.host = &fakeHost{statuses: there}
	r.report.told[id] = told{entries: r.report.entries(there)[id]}
	delete(s.ssds, a)
	r.look(t, "fast")
	if said := r.said(t, deviceName(uuid(1))); said != v1alpha1.ReasonMissing || len(s.released) != 1 {
		t.Errorf("pulled, it says %q; released %v", said, s.released)
	}
	entries := r.report.entries(nil)[id]
	if len(entries) != 1 || entries[0].State != v1alpha1.ReplicaFailed || entries[0].Epoch != 5 {
		t.Errorf("its replica is told of as %+v", entries)
	}
	s.ssds[b] = ours
	r.look(t, "fast")
	var d v1alpha1.Device
	err := r.api.Get(t.Context(), client.ObjectKey{Name: deviceName(uuid(1))}, &d)
	if said := r.said(t, d.Name); err != nil || said != v1alpha1.ReasonServing || d.Spec.Path != b {
		t.Errorf("put into another slot, it says %q at %s, %v", said, d.Spec.Path, err)
	}
	if entries := r.report.entries(there)[id]; len(entries) != 1 || entries[0].State != v1alpha1.ReplicaInSync {
		t.Errorf("its replica is told of as %+v", entries)
	}
}

// What the storenode had asked of the SSD never ends, or takes its time.
func TestSSDThatIsPulledAndHangsKeepsNoOtherAndIsNotOpenedTwice(t *testing.T) {
	a, b := slot(t, "a"), slot(t, "b")
	ours := Found{Content: ContentOurs, UUID: uuid(1), Pool: "fast"}
	s := &shelf{ssds: map[string]Found{a: ours}, ends: make(chan struct{})}
	r := storenode(t, s, selecting("fast", a, b))
	r.look(t, "fast")
	delete(s.ssds, a)
	s.ssds[b] = ours
	s.ssds[a] = Found{Content: ContentOurs, UUID: uuid(2), Pool: "fast"}
	gone := &absent{shelf: s, id: uuid(1)}
	r.opener, r.patience = gone, 10*time.Millisecond
	r.look(t, "fast")
	for name, want := range map[string]string{
		deviceName(uuid(1)): v1alpha1.ReasonMissing, deviceName(uuid(2)): v1alpha1.ReasonServing,
		candidateName("n1", b): v1alpha1.ReasonUnreadable,
	} {
		if said := r.said(t, name); said != want {
			t.Errorf("%s says %q, want %q", name, said, want)
		}
	}
	close(s.ends)
	r.releases[uuid(1)].ended <- <-r.releases[uuid(1)].ended // it has ended
	r.opener, r.patience = s, openPatience
	r.look(t, "fast")
	if said := r.said(t, deviceName(uuid(1))); said != v1alpha1.ReasonServing {
		t.Errorf("after its release it says %q", said)
	}
}

// absent is a shelf from which one Device was pulled, whose UUID is at another path by now.
type absent struct {
	*shelf
	id ident.UUID
}

func (a *absent) IsThere(id ident.UUID) bool { return id != a.id && a.shelf.IsThere(id) }

func TestSSDThatDoesNotAnswerKeepsNoOtherAndIsMissing(t *testing.T) {
	a, b := slot(t, "a"), slot(t, "b")
	s := &shelf{ssds: map[string]Found{
		a: {Content: ContentOurs, UUID: uuid(1), Pool: "fast"}, b: {Content: ContentOurs, UUID: uuid(2), Pool: "fast"},
	}, hangs: map[string]chan struct{}{a: make(chan struct{})}}
	r := storenode(t, s, selecting("fast", a, b), claimed(1, a), claimed(2, b))
	r.patience = 10 * time.Millisecond
	for range 2 {
		r.look(t, "fast")
		for n, want := range map[byte]string{1: v1alpha1.ReasonMissing, 2: v1alpha1.ReasonServing} {
			if said := r.said(t, deviceName(uuid(n))); said != want {
				t.Errorf("device %d says %q, want %q", n, said, want)
			}
		}
	}
	close(s.hangs[a])
	r.attempts[a].ended <- <-r.attempts[a].ended // it has answered
	r.patience = openPatience
	r.look(t, "fast")
	if said := r.said(t, deviceName(uuid(1))); said != v1alpha1.ReasonServing {
		t.Errorf("after its answer it says %q", said)
	}
}

func TestReadinessDoesNotWaitAnewForADeviceWhoseOpeningFailsAgainAndAgain(t *testing.T) {
	start := time.Now()
	c := clocktesting.NewFakePassiveClock(start)
	s := newStartup(nil, "n1", c)
	s.complete = true
	for c.Since(start) <= openingTime {
		s.passed("fast", map[string]attempt{"/dev/x": {serves: true, since: c.Now()}})
		if err := s.ready(t.Context()); (err == nil) != (c.Since(start) >= openingTime) {
			t.Fatalf("after %s it says %v", c.Since(start), err)
		}
		s.passed("fast", nil)
		c.SetTime(c.Now().Add(openingTime / 4))
	}
}

// Whoever renews all nodes goes on to the next when this one is ready.
func TestReadinessWaitsForDevicesThatAreBeingOpenedAndForNoOther(t *testing.T) {
	a, b, old := slot(t, "a"), slot(t, "b"), claimed(3, "/dev/gone")
	old.Spec.PoolName = "old"
	s := &shelf{
		ssds: map[string]Found{
			a: {Content: ContentOurs, UUID: uuid(1), Pool: "fast"}, b: {Content: ContentOurs, UUID: uuid(2), Pool: "fast"},
		},
		opens: map[string]chan struct{}{a: make(chan struct{})},
		hangs: map[string]chan struct{}{b: make(chan struct{})},
	}
	defer close(s.hangs[b])
	r := storenode(t, s, selecting("fast", a, b), claimed(1, a), claimed(2, b), old)
	r.patience = 10 * time.Millisecond
	ready := func() bool { return r.startup.ready(t.Context()) == nil }
	if ready() {
		t.Error("it is ready before anything was looked at")
	}
	for range 500 { // on a busy machine the look at a takes longer than that, too
		if r.look(t, "fast"); r.said(t, deviceName(uuid(1))) == v1alpha1.ReasonOpening {
			break
		}
	}
	if err := r.startup.ready(t.Context()); !errors.Is(err, errNotLooked) {
		t.Errorf("the pool that is gone was not looked at, and it says %v", err)
	}
	r.look(t, "old")
	if ready() {
		t.Error("it is ready while a device is being opened")
	}
	r.startup.clock = clocktesting.NewFakePassiveClock(time.Now().Add(openingTime))
	if !ready() {
		t.Error("it waits for a device that is being opened for ever")
	}
	r.startup.clock = clock.RealClock{}
	close(s.opens[a])
	r.attempts[a].ended <- <-r.attempts[a].ended // it is open
	r.look(t, "fast")
	if err := r.startup.ready(t.Context()); err != nil {
		t.Errorf("all is open but what does not answer, and it says %v", err)
	}
}

func TestDeviceObjectThatAPersonDeletedIsMadeAgainUnlessTheSSDFailed(t *testing.T) {
	at := slot(t, "ssd")
	for story, broken := range map[string]error{"works": nil, "failed": os.ErrInvalid} {
		s := &shelf{ssds: map[string]Found{at: {Content: ContentOurs, UUID: uuid(1), Pool: "fast"}}}
		r := storenode(t, s, selecting("fast", at))
		r.look(t, "fast")
		s.broken = broken
		if err := r.api.Delete(t.Context(), claimed(1, at)); err != nil {
			t.Fatal(err)
		}
		r.look(t, "fast")
		if made := r.said(t, deviceName(uuid(1))) != ""; made != (broken == nil) {
			t.Errorf("%s: the object is made again: %v", story, made)
		}
	}
}

func TestDeviceThatAnotherNodeServesIsTakenWhenThatIsKnownToBeOver(t *testing.T) {
	at, renewed := slot(t, "ssd"), metav1.MicroTime{Time: time.Unix(1, 0)}
	for story, c := range map[string]struct {
		ready           metav1.ConditionStatus
		next            metav1.MicroTime
		first, afterAll string
	}{
		"the other renews":    {metav1.ConditionTrue, metav1.MicroTime{Time: time.Unix(2, 0)}, "n2", "n2"},
		"the other is silent": {metav1.ConditionTrue, renewed, "n2", "n1"},
		"it is missing there": {metav1.ConditionFalse, renewed, "n1", "n1"},
	} {
		s := &shelf{ssds: map[string]Found{at: {Content: ContentOurs, UUID: uuid(1), Pool: "fast"}}}
		device, lease := claimed(1, at), &coordinationv1.Lease{}
		device.Spec.NodeName = "n2"
		device.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: c.ready}}
		lease.Namespace, lease.Name, lease.Spec.RenewTime = "shale", leasePrefix+"n2", &renewed
		r := storenode(t, s, selecting("fast", at), device, lease)
		r.look(t, "fast")
		has := func() string {
			t.Helper()
			if err := r.api.Get(t.Context(), client.ObjectKeyFromObject(device), device); err != nil {
				t.Fatal(err)
			}
			return device.Spec.NodeName
		}
		if got := has(); got != c.first {
			t.Errorf("%s: at first it is on %s, want %s", story, got, c.first)
		}
		key := client.ObjectKeyFromObject(lease)
		if err := r.api.Get(t.Context(), key, lease); err != nil {
			t.Fatal(err)
		}
		lease.Spec.RenewTime = &c.next
		if err := r.api.Update(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		r.rivals["n2"] = rival{r.rivals["n2"].renewed, r.rivals["n2"].at.Add(-time.Minute)}
		r.look(t, "fast")
		if got := has(); got != c.afterAll {
			t.Errorf("%s: after a while it is on %s, want %s", story, got, c.afterAll)
		}
	}
}
