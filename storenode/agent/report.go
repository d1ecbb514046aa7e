package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/store"
)

const (
	// reportEvery is how often changes of Replicas are looked for; a look costs memory accesses only.
	reportEvery = time.Second
	// usageEvery is how often mere changes of used space are written, or less often, so that each Replica here adds
	// usageShare: that of thousands of Shards must not be all that the API server does.
	usageEvery = 15 * time.Second
	usageShare = 50 * time.Millisecond
	// reportWorkers bound the Shards that are reported at once: a death changes the Epoch of thousands, and the operator
	// waits for what is told of the last.
	reportWorkers = 8
	// refusalMemory is how long a refused Replica is told of after it was last tried: the Shard is placed elsewhere
	// meanwhile, and nothing is placed here for that Shard as long as it is told. Who is still listed is tried again
	// before, as the queue of the Shards' reconciler waits for 17 minutes at most.
	refusalMemory = 20 * time.Minute
	// scrubTime is how exactly the end of a scrub is told, so that it does not change with each look.
	scrubTime = time.Minute
)

// report writes what is here into the objects' status, changes only.
type report struct {
	api client.Client
	// reader reads past the cache, for objects that were written a moment ago.
	reader client.Reader
	host   shard.Manager
	opener Opener
	places *places
	clock  clock.WithTicker
	node   string
	// incarnation of this process.
	incarnation string
	name        func(ident.ShardID) (string, bool)
	// findings tells of damage by events.
	findings *findings
	log      *slog.Logger
	kick     chan struct{}

	mu sync.Mutex
	// failures are Replicas that could not be created here, and why.
	failures map[ident.ReplicaKey]failure
	// told is what was last written of each Shard, so that only changes are.
	told map[ident.ShardID]told
	// away are Replicas of Devices that were here and are gone, as they are told of until they are seen again.
	away map[ident.ReplicaKey]away
	// errors is what is known of those of Devices.
	errors map[ident.UUID]*deviceErrors
	// toldUsage is when Devices were last written.
	toldUsage time.Time
}

// told is the last written report of a Shard, and when the object was last seen to have it.
type told struct {
	entries  []v1alpha1.ShardReplicaStatus
	at, seen time.Time
}

// failure is why a Replica could not be created, and when that was last tried.
type failure struct {
	why string
	at  time.Time
}

// away is the entry of a Replica on a Device that is gone.
type away struct {
	device string
	entry  v1alpha1.ShardReplicaStatus
}

// wake looks for changes now.
func (r *report) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// applied notes the outcome of Host.Apply for the local Replicas of a Shard.
func (r *report) applied(id ident.ShardID, local []v1alpha1.ShardReplica, err error) {
	r.mu.Lock()
	for _, c := range local {
		key := ident.ReplicaKey{Shard: id, Replica: ident.ReplicaID(c.ID)}
		if err == nil {
			delete(r.failures, key)
		} else {
			r.failures[key] = failure{failureMessage(err), r.clock.Now()}
		}
	}
	r.mu.Unlock()
	r.wake()
}

func failureMessage(err error) string {
	switch {
	case errors.Is(err, store.ErrNoSpace):
		return "the device has no room for this replica"
	case errors.Is(err, shard.ErrSetBack):
		return "the shard has another membership of this epoch than this replica knows " +
			"(was the API server restored from a backup?); nothing is served: " +
			"see docs/operate/restored-api-server.md"
	case errors.Is(err, shard.ErrStaleRecord):
		return "the shard's membership is older than what this replica has seen " +
			"(was the API server restored from a backup?); " +
			"see docs/operate/restored-api-server.md"
	default:
		return err.Error()
	}
}

// run reports until ctx ends.
func (r *report) run(ctx context.Context) error {
	tick := r.clock.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
		case <-r.kick:
		}
		if err := r.shards(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("Could not report replicas, trying again", "error", err)
		}
		if err := r.devices(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("Could not report devices, trying again", "error", err)
		}
	}
}

// shards writes the entries of this node's Replicas where they changed.
func (r *report) shards(ctx context.Context) error {
	statuses := r.host.Statuses()
	r.findings.tell(ctx, statuses)
	now := r.entries(statuses)
	r.mu.Lock()
	for id := range r.told {
		if _, ok := now[id]; !ok {
			now[id] = nil
		}
	}
	r.mu.Unlock()
	usage := max(usageEvery, time.Duration(len(statuses))*usageShare)
	errs := make(chan error, len(now))
	free := make(chan struct{}, reportWorkers)
	for id, entries := range now {
		free <- struct{}{}
		go func() {
			errs <- r.shard(ctx, id, entries, usage)
			<-free
		}()
	}
	var all []error
	for range now {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// entries are the reports of all local Replicas, by Shard, in order of their IDs.
func (r *report) entries(statuses []shard.Status) map[ident.ShardID][]v1alpha1.ShardReplicaStatus {
	all := map[ident.ShardID][]v1alpha1.ShardReplicaStatus{}
	seen := map[ident.ReplicaKey]bool{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range statuses {
		seen[s.Key] = true
		entry := v1alpha1.ShardReplicaStatus{
			ID: int64(s.Key.Replica), State: stateText(s.State), Epoch: int64(s.Epoch),
			RebuildPercent: int32(s.RebuildPercent), UsedBytes: s.UsedBytes, Message: s.Message,
			RebuildSecondsLeft: int64(s.RebuildLeft.Round(leftStep(s.RebuildLeft)).Seconds()),
			LostBlocks:         int64(s.LostBlocks), ScrubPercent: int32(s.Scrub.Percent),
			PowerLost: s.PowerLost, Disputed: s.Disputed, Incarnation: r.incarnation,
		}
		if s.Scrub.Passes > 0 {
			ended := r.clock.Now().Add(-s.Scrub.Since).UTC().Round(scrubTime)
			entry.LastScrub = ended.Format(time.RFC3339)
		}
		if f, failed := r.failures[s.Key]; failed {
			entry.Message = f.why
		}
		all[s.Key.Shard] = append(all[s.Key.Shard], entry)
	}
	for key, a := range r.away {
		if seen[key] {
			delete(r.away, key)
			continue
		}
		seen[key] = true
		all[key.Shard] = append(all[key.Shard], a.entry)
	}
	maps.DeleteFunc(r.failures, func(_ ident.ReplicaKey, f failure) bool { return r.clock.Since(f.at) > refusalMemory })
	for key, f := range r.failures {
		if !seen[key] {
			all[key.Shard] = append(all[key.Shard], v1alpha1.ShardReplicaStatus{
				ID: int64(key.Replica), State: stateText(shard.StateFailed), Message: f.why,
			})
		}
	}
	for _, entries := range all {
		slices.SortFunc(entries, func(a, b v1alpha1.ShardReplicaStatus) int { return cmp.Compare(a.ID, b.ID) })
	}
	return all
}

// leftStep is how exactly an expected time is told, so that a status is not written for each second of an hour.
func leftStep(left time.Duration) time.Duration {
	switch {
	case left > time.Hour:
		return 10 * time.Minute
	case left > 10*time.Minute:
		return time.Minute
	case left > time.Minute:
		return 10 * time.Second
	}
	return time.Second
}

func stateText(s shard.State) string {
	switch s {
	case shard.StateCreated:
		return v1alpha1.ReplicaCreated
	case shard.StateInSync:
		return v1alpha1.ReplicaInSync
	case shard.StateRebuilding:
		return v1alpha1.ReplicaRebuilding
	case shard.StateStale:
		return v1alpha1.ReplicaStale
	case shard.StateFailed:
		return v1alpha1.ReplicaFailed
	}
	return v1alpha1.ReplicaFailed
}

// shard writes the entries of one Shard if they differ from what was last written. Server-side apply with a field
// manager of this node's own: entries of other nodes are not touched, and entries left out disappear.
func (r *report) shard(
	ctx context.Context, id ident.ShardID, entries []v1alpha1.ShardReplicaStatus, usage time.Duration,
) error {
	r.mu.Lock()
	last, known := r.told[id]
	r.mu.Unlock()
	now := r.clock.Now()
	name, ok := r.name(id)
	same := equality.Semantic.DeepEqual(last.entries, entries) ||
		now.Sub(last.at) < usage && sameButUsage(last.entries, entries)
	if known && same && (!ok || r.stands(ctx, id, name)) {
		return nil
	}
	if !ok {
		r.mu.Lock()
		delete(r.told, id)
		r.dropFailures(id)
		r.mu.Unlock()
		return nil
	}
	if err := r.applyStatus(ctx, name, entries); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(entries) == 0 {
		delete(r.told, id)
	} else {
		r.told[id] = told{entries: entries, at: now, seen: now}
	}
	return nil
}

// stands reports whether the object has what was told of it, as far as that is looked at: now and then, and what the
// operator decides by. An API server that was restored from a backup has what was told long ago. The cache does for
// this, as it has had the time to follow.
func (r *report) stands(ctx context.Context, id ident.ShardID, name string) bool {
	r.mu.Lock()
	last := r.told[id]
	r.mu.Unlock()
	now := r.clock.Now()
	var object v1alpha1.Shard
	if now.Sub(last.seen) < lookAgainEvery || r.api.Get(ctx, client.ObjectKey{Name: name}, &object) != nil {
		return true
	}
	for i := range last.entries {
		is := func(have v1alpha1.ShardReplicaStatus) bool { return sameDecision(&have, &last.entries[i]) }
		if !slices.ContainsFunc(object.Status.Replicas, is) && r.isOurs(ctx, id, &last.entries[i], &object) {
			return false
		}
	}
	last.seen = now
	r.mu.Lock()
	r.told[id] = last
	r.mu.Unlock()
	return true
}

// isOurs reports whether an entry that is not as it was told is this storenode's to tell again. Where the Device is on
// another node by now, the storenode there tells of it, and two that mend each other's entries never end.
func (r *report) isOurs(
	ctx context.Context, id ident.ShardID, entry *v1alpha1.ShardReplicaStatus, object *v1alpha1.Shard,
) bool {
	key := ident.ReplicaKey{Shard: id, Replica: ident.ReplicaID(entry.ID)}
	r.mu.Lock()
	_, gone := r.away[key]
	r.mu.Unlock()
	if gone {
		return false
	}
	others := func(have v1alpha1.ShardReplicaStatus) bool {
		return have.ID == entry.ID && have.Incarnation != entry.Incarnation
	}
	return !slices.ContainsFunc(object.Status.Replicas, others) || r.isHere(ctx, key)
}

// isHere reports whether a Replica is on a Device of this node by that one's object too. An API server that was
// restored has entries of this storenode's former processes.
func (r *report) isHere(ctx context.Context, key ident.ReplicaKey) bool {
	for _, s := range r.host.StatusesOf(key.Shard) {
		var device v1alpha1.Device
		if s.Key == key && r.api.Get(ctx, client.ObjectKey{Name: deviceName(s.Device)}, &device) == nil {
			return device.Spec.NodeName == r.node
		}
	}
	return false
}

func sameDecision(a, b *v1alpha1.ShardReplicaStatus) bool {
	return a.ID == b.ID && a.State == b.State && a.Epoch == b.Epoch && a.PowerLost == b.PowerLost &&
		a.Disputed == b.Disputed && a.Incarnation == b.Incarnation
}

func (r *report) dropFailures(id ident.ShardID) {
	for key := range r.failures {
		if key.Shard == id {
			delete(r.failures, key)
		}
	}
	maps.DeleteFunc(r.away, func(key ident.ReplicaKey, _ away) bool { return key.Shard == id })
}

func sameButUsage(a, b []v1alpha1.ShardReplicaStatus) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		x.UsedBytes, y.UsedBytes = 0, 0
		if x != y {
			return false
		}
	}
	return true
}

func (r *report) applyStatus(ctx context.Context, name string, entries []v1alpha1.ShardReplicaStatus) error {
	list, err := toList(entries)
	if err != nil {
		return fmt.Errorf("encode status of shard %s: %w", name, err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": name},
		"status":   map[string]any{"replicas": list},
	}}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Shard"))
	err = r.api.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(object),
		client.FieldOwner("storenode-"+r.node), client.ForceOwnership)
	if err != nil && client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("apply status of shard %s: %w", name, err)
	}
	return nil
}

func toList(entries []v1alpha1.ShardReplicaStatus) ([]any, error) {
	raw, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	list := []any{}
	if len(entries) == 0 {
		return list, nil
	}
	return list, json.Unmarshal(raw, &list)
}

// devices writes the usage of all local Devices now and then.
func (r *report) devices(ctx context.Context) error {
	if now := r.clock.Now(); now.Sub(r.toldUsage) >= usageEvery {
		r.toldUsage = now
		var errs []error
		for _, id := range r.places.all() {
			errs = append(errs, r.device(ctx, id))
		}
		return errors.Join(errs...)
	}
	return nil
}

// device writes the status of one Device in service.
func (r *report) device(ctx context.Context, id ident.UUID) error {
	usage, failure := r.opener.Usage(id)
	condition := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonServing,
		Message: "The device is in service",
	}
	if failure != nil {
		condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.ReasonDeviceFailed
		condition.Message = failure.Error()
	}
	health := r.host.Health(id)
	sick := healthy(health, usage, r.erroneous(id, health.Errors))
	return r.patchDevice(ctx, deviceName(id), func(d *v1alpha1.Device) {
		if d.Spec.NodeName != r.node {
			return // it was pulled, and has just been found elsewhere
		}
		sick.ObservedGeneration = d.Generation
		if meta.SetStatusCondition(&d.Status.Conditions, sick) && sick.Status == metav1.ConditionFalse {
			r.findings.sick(d, sick)
		}
		d.Status.CapacityBytes, d.Status.UsedBytes = usage.Capacity, usage.Used
		d.Status.ReservedBytes, d.Status.ReplicaCount = usage.Reserved, int32(usage.Replicas)
		d.Status.Capacity, d.Status.Used = v1alpha1.BytesText(usage.Capacity), v1alpha1.BytesText(usage.Used)
		d.Status.Reserved = v1alpha1.BytesText(usage.Reserved)
		d.Status.ObservedGeneration = d.Generation
		condition.ObservedGeneration = d.Generation
		meta.SetStatusCondition(&d.Status.Conditions, condition)
	})
}

// erroneous reports whether a Device has had errors lately.
func (r *report) erroneous(id ident.UUID, count uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.errors[id] == nil {
		r.errors[id] = &deviceErrors{}
	}
	return r.errors[id].see(count, r.clock.Now())
}

// refused writes why a selected Device is not in service.
func (r *report) refused(ctx context.Context, name string, c candidate) error {
	return r.patchDevice(ctx, name, func(d *v1alpha1.Device) {
		d.Status.ObservedGeneration = d.Generation
		meta.SetStatusCondition(&d.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: d.Generation,
			Reason: c.reason, Message: c.message,
		})
	})
}

func (r *report) patchDevice(ctx context.Context, name string, change func(*v1alpha1.Device)) error {
	var d v1alpha1.Device
	if err := r.reader.Get(ctx, client.ObjectKey{Name: name}, &d); err != nil {
		return client.IgnoreNotFound(err)
	}
	base := d.DeepCopy()
	change(&d)
	if equality.Semantic.DeepEqual(base.Status, d.Status) {
		return nil
	}
	if err := r.api.Status().Patch(ctx, &d, client.MergeFrom(base)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patch status of device %s: %w", name, err)
	}
	return nil
}
