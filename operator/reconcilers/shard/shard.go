package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/failover"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/metrics"
	"github.com/shale-storage/shale/operator/placement"
)

const (
	// retryConflict is how soon a lost compare-and-swap is looked at again, if the winner is not seen before.
	retryConflict = 50 * time.Millisecond
	// retryRoom is how soon room for a Replica is looked for again.
	retryRoom = 10 * time.Second
	// settle is how long a storenode had the time to report a Replica it holds: it does so within a second.
	settle = 5 * time.Second
	// createWithin is how long a storenode that lives may take to make a Replica; it waits for a Device for 5 s at a time.
	createWithin = 30 * time.Second
	// tick is added to a wait, so that what is waited for is past.
	tick = time.Millisecond
)

// Reconciler of Shards. All exported fields must be given.
type Reconciler struct {
	API client.Client
	// Live reads past the cache.
	Live      client.Reader
	Inventory *inventory.Inventory
	Events    events.EventRecorder
	Metrics   *metrics.Metrics
	Log       *slog.Logger
	Clock     clock.PassiveClock
	// ReplaceAfter is how long a Replica may be lost before it is replaced.
	ReplaceAfter time.Duration

	since since
}

// Reconcile one Shard.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	shard := &v1alpha1.Shard{}
	if err := r.API.Get(ctx, req.NamespacedName, shard); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.Name)
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	s, err := r.gather(ctx, shard)
	if err != nil {
		return reconcile.Result{}, err
	}
	var done error
	switch {
	case s.goes:
		done = r.remove(ctx, s)
	case isAsked(shard):
		done = r.giveUp(ctx, s)
	case s.stale() != "":
		s.consider() // for people: what would be done
	case shard.Spec.Membership.Epoch == 0:
		done = r.create(ctx, s)
	default:
		done = r.serve(ctx, s)
	}
	if apierrors.IsConflict(done) {
		r.Metrics.Conflicts.Inc()
		return reconcile.Result{RequeueAfter: retryConflict}, nil
	}
	if s.gone {
		return reconcile.Result{}, done
	}
	if err := errors.Join(done, r.tell(ctx, s)); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: s.again}, nil
}

func (r *Reconciler) forget(name string) {
	r.since.forget(name)
	r.Metrics.Unavailable.Put(name, false)
	r.Metrics.Degraded.Put(name, false)
	r.Metrics.TooFew.Put(name, false)
}

// serve keeps a Shard that has an Epoch in service, and whole.
func (r *Reconciler) serve(ctx context.Context, s *scope) error {
	s.consider()
	d := s.decision
	switch d.Action {
	case failover.Promote:
		return r.promote(ctx, s, d)
	case failover.Refuse:
		if !s.seen.Struggles() {
			return nil
		}
	case failover.Wait:
		s.lookAgain(d.Again + tick)
	case failover.Keep:
	}
	if s.volume == nil || !s.volume.DeletionTimestamp.IsZero() {
		return nil // nobody says how many Replicas are wanted
	}
	if err := r.require(ctx, s); err != nil {
		return err
	}
	if err := r.spread(ctx, s); err != nil {
		return err
	}
	repair := failover.Repair(&s.seen, r.ReplaceAfter)
	if repair.Again > 0 {
		s.lookAgain(repair.Again + tick)
	}
	switch repair.Action {
	case failover.RepairAdd:
		return r.add(ctx, s, repair)
	case failover.RepairRemove:
		return r.take(ctx, s, repair)
	case failover.RepairNothing:
	}
	return nil
}

func (r *Reconciler) promote(ctx context.Context, s *scope, d failover.Decision) error {
	next := s.shard.DeepCopy()
	next.Spec.Membership = record(d.Next)
	if err := r.write(ctx, s, next, "promote"); err != nil {
		return err
	}
	r.Metrics.Failovers.WithLabelValues(string(d.Cause)).Inc()
	r.Log.Info("Promoted", "shard", next.Name, "epoch", d.Next.Epoch, "primary", d.Next.Primary, "cause", d.Message)
	r.Events.Eventf(next, nil, corev1.EventTypeWarning, string(d.Cause), "Promote", "%s", d.Message)
	return nil
}

// require passes on how many Replicas the Volume wants in sync. That is no membership: the Epoch stays.
func (r *Reconciler) require(ctx context.Context, s *scope) error {
	needed := s.volume.Spec.NeededInSync()
	if s.shard.Spec.MinInSync == needed {
		return nil
	}
	next := s.shard.DeepCopy()
	next.Spec.MinInSync = needed
	if err := r.API.Update(ctx, next); err != nil {
		return fmt.Errorf("set minInSync of shard %s: %w", next.Name, err)
	}
	s.shard = next
	return nil
}

// add places one more Replica, which the Primary then rebuilds.
func (r *Reconciler) add(ctx context.Context, s *scope, d failover.RepairDecision) error {
	placed, err := r.place(ctx, s, 1, d.Kept)
	if no, ok := errors.AsType[*placement.NoRoomError](err); ok {
		s.noReplacement = d.Message + "; " + no.Message
		s.lookAgain(retryRoom)
		return nil
	}
	if err != nil {
		return err
	}
	next := s.shard.DeepCopy()
	next.Spec.Replicas = append(next.Spec.Replicas, placed...)
	next.Spec.NextReplicaID += int64(len(placed))
	next.Spec.Membership = record(d.Next)
	if err := r.write(ctx, s, next, "add replica to"); err != nil {
		return err
	}
	r.Metrics.Replacements.Inc()
	message := fmt.Sprintf("replica %d is placed on node %s: %s", placed[0].ID, placed[0].NodeName, d.Message)
	r.Log.Info("Added replica", "shard", next.Name, "epoch", d.Next.Epoch, "replica", placed[0].ID,
		"node", placed[0].NodeName, "cause", d.Message)
	r.Events.Eventf(next, nil, corev1.EventTypeNormal, "ReplicaAdded", "Replace", "%s", message)
	return nil
}

// take removes a Replica that is not needed.
func (r *Reconciler) take(ctx context.Context, s *scope, d failover.RepairDecision) error {
	next := s.shard.DeepCopy()
	s.displace(next, d.Replica, r.Clock.Now())
	next.Spec.Membership = record(d.Next)
	if err := r.write(ctx, s, next, "remove replica from"); err != nil {
		return err
	}
	r.Metrics.Removals.Inc()
	r.Log.Info("Removed replica", "shard", next.Name, "epoch", d.Next.Epoch, "replica", d.Replica, "cause", d.Message)
	r.Events.Eventf(next, nil, corev1.EventTypeNormal, "ReplicaRemoved", "Replace", "%s", d.Message)
	return nil
}

// spread tells in which failure domains the Replicas are, if there are more than wanted, so that one is to go.
func (r *Reconciler) spread(ctx context.Context, s *scope) error {
	if len(s.seen.Replicas) <= s.seen.Wanted {
		return nil
	}
	var pool v1alpha1.Pool
	if err := r.API.Get(ctx, client.ObjectKey{Name: s.volume.Spec.PoolName}, &pool); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("get pool %s: %w", s.volume.Spec.PoolName, err)
	}
	domain, err := r.Inventory.Domains(ctx, pool.Spec.FailureDomain)
	if err != nil {
		return err
	}
	for i := range s.seen.Replicas {
		s.seen.Replicas[i].Domain = domain(s.seen.Replicas[i].Node)
	}
	return nil
}

// place finds places for more Replicas beside those kept. On a *placement.NoRoomError there are none.
func (r *Reconciler) place(ctx context.Context, s *scope, count int, kept []int64) ([]v1alpha1.ShardReplica, error) {
	if s.volume == nil {
		return nil, &placement.NoRoomError{Message: fmt.Sprintf("volume %s does not exist", s.shard.Spec.VolumeName)}
	}
	var pool v1alpha1.Pool
	if err := r.API.Get(ctx, client.ObjectKey{Name: s.volume.Spec.PoolName}, &pool); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, &placement.NoRoomError{Message: fmt.Sprintf("pool %s does not exist", s.volume.Spec.PoolName)}
		}
		return nil, fmt.Errorf("get pool %s: %w", s.volume.Spec.PoolName, err)
	}
	pass, err := r.Inventory.Begin(ctx, &pool)
	if err != nil {
		return nil, err
	}
	defer pass.End()
	want := inventory.Want{
		Shard: s.shard.Name, Size: s.shard.Spec.SizeBytes, Count: count, First: s.shard.Spec.NextReplicaID,
		Nodes: s.nodesOf(kept), Refusals: s.refusals(r.Clock.Now()),
	}
	placed, err := pass.Place(want)
	if err != nil {
		r.Metrics.NoRoom.Inc()
	}
	return placed, err
}

// write is the compare-and-swap: it fails with a conflict if the Shard is not any more what was looked at.
func (r *Reconciler) write(ctx context.Context, s *scope, next *v1alpha1.Shard, what string) error {
	if err := r.API.Update(ctx, next); err != nil {
		return fmt.Errorf("%s shard %s: %w", what, next.Name, err)
	}
	s.shard = next
	s.decision, s.losing = failover.Decision{Action: failover.Keep}, false
	return nil
}

func record(m failover.Membership) v1alpha1.ShardMembership {
	return v1alpha1.ShardMembership{Epoch: m.Epoch, Primary: m.Primary, InSync: m.InSync}
}

// since remembers when something was first seen, on this process's clock. It is bounded by what is being made or
// deleted now.
type since struct {
	mu    sync.Mutex
	first map[string]map[string]time.Time
}

// age is how long what is said of a Shard has been true, at least 1 ns if it is, 0 if it is not.
func (s *since) age(shard, what string, is bool, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !is {
		delete(s.first[shard], what)
		return 0
	}
	if s.first == nil {
		s.first = map[string]map[string]time.Time{}
	}
	if s.first[shard] == nil {
		s.first[shard] = map[string]time.Time{}
	}
	at, known := s.first[shard][what]
	if !known {
		s.first[shard][what], at = now, now
	}
	return max(now.Sub(at), 1)
}

// once reports whether what is said of a Shard is true, or was before.
func (s *since) once(shard, what string, is bool, now time.Time) bool {
	s.mu.Lock()
	_, was := s.first[shard][what]
	s.mu.Unlock()
	return s.age(shard, what, is || was, now) > 0
}

func (s *since) forget(shard string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.first, shard)
}
