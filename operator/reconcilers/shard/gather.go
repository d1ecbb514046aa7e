package shard

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/failover"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
)

// scope is one run.
type scope struct {
	shard *v1alpha1.Shard
	// volume is nil if there is none.
	volume *v1alpha1.Volume
	// goes: it is being deleted, and no Volume keeps it.
	goes bool
	// seen is what decisions are taken from.
	seen failover.Shard
	// alive by node.
	alive map[string]liveness.State
	// reports by Replica.
	reports map[int64]*v1alpha1.ShardReplicaStatus
	// failures says of Replicas that cannot be had where they are, why.
	failures map[int64]string
	// stalled are the Replicas whose Device does not answer; cramped those that are out of sync on one that is full.
	stalled, cramped map[int64]bool
	// stuck are displaced Replicas, never told of, whose storenode is down or whose Device does not answer.
	stuck map[int64]bool
	// late are the Replicas that are not made in time by a storenode that lives.
	late map[int64]bool

	// What came out: the decision that stands, why no Replica could be placed, what a deletion waits for.
	decision failover.Decision
	// loss is what it would mean to give up who is away, if losing.
	loss   failover.Loss
	losing bool
	// lostNow are the lost Replicas, to be remembered.
	lostNow       []v1alpha1.LostReplica
	noRoom        string
	noReplacement string
	waitsFor      []string
	// gone: the finalizer was taken off.
	gone bool
	// again is when to look again; 0 if nothing is waited for.
	again time.Duration
}

// lookAgain keeps the nearest of the times at which something will have happened.
func (s *scope) lookAgain(after time.Duration) {
	if after > 0 && (s.again == 0 || after < s.again) {
		s.again = after
	}
}

// gather collects what is known of the Shard.
func (r *Reconciler) gather(ctx context.Context, shard *v1alpha1.Shard) (*scope, error) {
	s := &scope{
		shard: shard, alive: map[string]liveness.State{},
		reports: map[int64]*v1alpha1.ShardReplicaStatus{}, failures: map[int64]string{}, stalled: map[int64]bool{},
		cramped: map[int64]bool{},
		stuck:   map[int64]bool{}, late: map[int64]bool{},
	}
	var err error
	if s.volume, err = r.volume(ctx, shard); err != nil {
		return nil, err
	}
	if s.volume != nil {
		s.seen.Wanted = int(s.volume.Spec.Replicas)
	}
	s.goes = !shard.DeletionTimestamp.IsZero() && (s.volume == nil || !s.volume.Keeps(shard))
	for i := range shard.Status.Replicas {
		s.reports[shard.Status.Replicas[i].ID] = &shard.Status.Replicas[i]
		s.seen.Seen = max(s.seen.Seen, shard.Status.Replicas[i].Epoch)
	}
	s.seen.Membership = failover.Membership{
		Epoch: shard.Spec.Membership.Epoch, Primary: shard.Spec.Membership.Primary, InSync: shard.Spec.Membership.InSync,
	}
	s.seen.Nodes = map[string]failover.Node{}
	for _, replica := range shard.Spec.Replicas {
		if err := r.gatherReplica(ctx, s, replica); err != nil {
			return nil, err
		}
	}
	return s, r.gatherDisplaced(ctx, s)
}

// gatherDisplaced notes which of the Replicas that were taken off, and never told of, may be made yet.
func (r *Reconciler) gatherDisplaced(ctx context.Context, s *scope) error {
	for _, d := range displaced(s.shard) {
		if d.Reported || s.reports[d.ID] != nil {
			continue
		}
		device, err := r.holder(ctx, d.ShardReplica)
		if err != nil {
			return err
		}
		s.stuck[d.ID] = device != nil &&
			(inventory.IsStalled(device) || !r.Inventory.Alive(device.Spec.NodeName).Alive)
	}
	return nil
}

// volume is the Shard's, nil if there is none: one of the same name and another ID says nothing about it. Where that
// lets go of data it is believed of the API server only: the cache may be behind.
func (r *Reconciler) volume(ctx context.Context, shard *v1alpha1.Shard) (*v1alpha1.Volume, error) {
	var volume v1alpha1.Volume
	key := client.ObjectKey{Name: shard.Spec.VolumeName}
	err := r.API.Get(ctx, key, &volume)
	doubt := apierrors.IsNotFound(err) || err == nil && volume.Spec.ID != shard.Spec.VolumeID
	if doubt && !shard.DeletionTimestamp.IsZero() {
		volume = v1alpha1.Volume{}
		err = r.Live.Get(ctx, key, &volume)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // nil is the answer
	case err != nil:
		return nil, fmt.Errorf("get volume %s: %w", key.Name, err)
	case volume.Spec.ID != shard.Spec.VolumeID:
		return nil, nil //nolint:nilnil // as above
	}
	return &volume, nil
}

func (r *Reconciler) gatherReplica(ctx context.Context, s *scope, replica v1alpha1.ShardReplica) error {
	seen := failover.Replica{
		ID: replica.ID, Node: replica.NodeName, Device: replica.DeviceName, Content: s.content(replica.ID),
	}
	var device v1alpha1.Device
	err := r.API.Get(ctx, client.ObjectKey{Name: replica.DeviceName}, &device)
	switch {
	case apierrors.IsNotFound(err):
		seen.Gone = true
	case err != nil:
		return fmt.Errorf("get device %s: %w", replica.DeviceName, err)
	default:
		seen.Node = device.Spec.NodeName // it may have moved since it was placed
	}
	report := s.reports[replica.ID]
	if report != nil && report.State == v1alpha1.ReplicaFailed {
		s.failures[replica.ID] = report.Message
	}
	if why, missing := inventory.IsMissing(&device); missing { // whatever was reported before
		s.failures[replica.ID], seen.Missing = why, true
	}
	_, seen.Failed = s.failures[replica.ID]
	if err := r.gatherNode(ctx, s, seen.Node, replica.DeviceName); err != nil {
		return err
	}
	s.stalled[replica.ID] = inventory.IsStalled(&device)
	s.cramped[replica.ID] = inventory.IsFull(&device) && !slices.Contains(s.shard.Spec.Membership.InSync, replica.ID)
	maintenance, state := s.seen.Nodes[seen.Node].Maintenance, s.alive[seen.Node]
	seen.Told = report != nil && report.Incarnation == state.Holder
	seen.Lossy = s.seen.Epoch > 0 && isLossy(report, state.Holder)
	seen.Back = state.Renewed && seen.Told
	if surplus := len(s.shard.Spec.Replicas) > s.seen.Wanted; surplus && state.Alive && !state.Renewed {
		s.lookAgain(state.Left + tick) // by then it is known whether it is back
	}
	away := (seen.Failed || s.stalled[replica.ID] || !state.Alive) && !maintenance
	switch {
	case seen.Gone, away:
		seen.LostFor, seen.Away = s.lost(replica.ID, r.Clock.Now())
	case !state.Renewed && !maintenance:
		s.maybeLost(replica.ID, state)
	}
	s.seen.Replicas = append(s.seen.Replicas, seen)
	return nil
}

// isLossy reports whether acknowledged writes that were not flushed may be missing, by what the storenode's process,
// the holder of its Lease, tells. Of whom nothing is told nothing is known, and what an earlier process told may be
// from before a loss of power.
func isLossy(report *v1alpha1.ShardReplicaStatus, holder string) bool {
	return report == nil || report.PowerLost || report.Incarnation != holder
}

// gatherNode collects what is known of a storenode.
func (r *Reconciler) gatherNode(ctx context.Context, s *scope, name, device string) error {
	state := r.Inventory.Alive(name)
	s.alive[name] = state
	if state.Alive && !state.Heard {
		s.lookAgain(state.Left + tick) // no Lease that anybody watches: its end comes with no event
	}
	node := failover.Node{Alive: state.Alive, LeaseAge: state.Age}
	var object v1alpha1.StoreNode
	err := r.API.Get(ctx, client.ObjectKey{Name: name}, &object)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("get storenode %s: %w", name, err)
	}
	node.Unreachable = object.Status.Unreachable
	node.Maintenance = object.Spec.Maintenance != ""
	node.Host = hostSign(&object, state)
	node.Primaries = r.Inventory.Primaries(device)
	s.seen.Nodes[name] = node
	return nil
}

// lost is how long a Replica that is lost now has been so, at least 1 ns, and since when. The status remembers, so that
// an operator that starts anew does not wait anew.
func (s *scope) lost(id int64, now time.Time) (time.Duration, time.Time) {
	since := metav1.NewTime(now).Rfc3339Copy()
	for _, l := range s.shard.Status.LostReplicas {
		if l.ID == id && l.Since.Before(&since) {
			since = l.Since
		}
	}
	s.lostNow = append(s.lostNow, v1alpha1.LostReplica{ID: id, Since: since})
	return max(now.Sub(since.Time), 1), since.Time
}

// maybeLost keeps what is remembered of a Replica whose storenode counts as alive only because this process has not
// watched for long enough. It is seen to live soon, or not.
func (s *scope) maybeLost(id int64, state liveness.State) {
	for _, l := range s.shard.Status.LostReplicas {
		if l.ID == id {
			s.lostNow = append(s.lostNow, l)
			s.lookAgain(state.Left + tick)
		}
	}
}

// nodesOf are the nodes of some of the Replicas.
func (s *scope) nodesOf(ids []int64) []string {
	var nodes []string
	for _, id := range ids {
		for _, replica := range s.seen.Replicas {
			if replica.ID == id {
				nodes = append(nodes, replica.Node)
			}
		}
	}
	return nodes
}
