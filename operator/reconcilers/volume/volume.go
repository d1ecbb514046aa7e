package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/metrics"
	"github.com/shale-storage/shale/operator/placement"
	"github.com/shale-storage/shale/operator/reconcilers"
)

const (
	// retryRoom is how soon room is looked for again, if no Device changes before.
	retryRoom = 10 * time.Second
	// lookAgain is how soon a Volume is looked at again whose conditions changed. The cache shows them by then.
	lookAgain = 2 * time.Second
)

// Reconciler of Volumes. All fields must be given.
type Reconciler struct {
	API client.Client
	// Live reads past the cache.
	Live      client.Reader
	Inventory *inventory.Inventory
	Events    events.EventRecorder
	Metrics   *metrics.Metrics
}

// scope is one run.
type scope struct {
	volume *v1alpha1.Volume
	shards []v1alpha1.Shard
	// strangers are Shards of another Volume that had the same name.
	strangers []v1alpha1.Shard
	// unmade says why Shards that are missing could not be made, or must not be.
	unmade *reconcilers.Verdict
	// again is how soon the Volume is looked at again, 0 if only when something changes.
	again time.Duration
}

// Reconcile one Volume.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	s := scope{volume: &v1alpha1.Volume{}}
	if err := r.API.Get(ctx, req.NamespacedName, s.volume); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if s.volume.DeletionTimestamp.IsZero() && controllerutil.AddFinalizer(s.volume, reconcilers.Finalizer) {
		if err := r.API.Update(ctx, s.volume); err != nil {
			return conflict(fmt.Errorf("add finalizer to volume %s: %w", req.Name, err))
		}
	}
	named, err := r.Inventory.ShardsOfVolume(ctx, req.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	s.shards, s.strangers = apart(s.volume, named)
	if !s.volume.DeletionTimestamp.IsZero() {
		return r.remove(ctx, &s)
	}
	made := r.make(ctx, &s)
	told := r.tell(ctx, &s)
	if err := errors.Join(made, told); err != nil {
		return conflict(err)
	}
	if s.unmade != nil && s.again == 0 {
		s.again = retryRoom
	}
	return reconcile.Result{RequeueAfter: s.again}, nil
}

// conflict is no error to shout about: somebody else wrote meanwhile, and the next run sees it.
func conflict(err error) (reconcile.Result, error) {
	const soon = 50 * time.Millisecond
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: soon}, nil
	}
	return reconcile.Result{}, err
}

// make places and creates the Shards that are missing.
func (r *Reconciler) make(ctx context.Context, s *scope) error {
	missing := missingShards(s.volume, s.shards)
	if len(missing) == 0 {
		return nil
	}
	if r.taken(s, missing) {
		return nil
	}
	if lost, err := r.lost(ctx, s, missing); err != nil || lost {
		return err
	}
	var pool v1alpha1.Pool
	if err := r.API.Get(ctx, client.ObjectKey{Name: s.volume.Spec.PoolName}, &pool); err != nil {
		if apierrors.IsNotFound(err) {
			s.unmade = &reconcilers.Verdict{
				Reason: v1alpha1.ReasonNoPool, Message: fmt.Sprintf("pool %s does not exist", s.volume.Spec.PoolName),
			}
			return nil
		}
		return fmt.Errorf("get pool %s: %w", s.volume.Spec.PoolName, err)
	}
	if err := r.place(ctx, s, &pool, missing); err != nil || s.unmade != nil {
		return err
	}
	for _, shard := range missing {
		err := r.API.Create(ctx, shard)
		if apierrors.IsAlreadyExists(err) {
			continue // the cache is behind; the next run sees it
		}
		if err != nil {
			return fmt.Errorf("create shard %s: %w", shard.Name, err)
		}
		s.shards = append(s.shards, *shard)
	}
	return nil
}

// place gives all the Shards their places, or none of them.
func (r *Reconciler) place(ctx context.Context, s *scope, pool *v1alpha1.Pool, missing []*v1alpha1.Shard) error {
	pass, err := r.Inventory.Begin(ctx, pool)
	if err != nil {
		return err
	}
	defer pass.End()
	for i, shard := range missing {
		shard.Spec.Replicas, err = pass.Place(inventory.Want{
			Shard: shard.Name, Size: shard.Spec.SizeBytes, Count: int(s.volume.Spec.Replicas), First: 1,
		})
		if err == nil {
			shard.Spec.NextReplicaID = int64(len(shard.Spec.Replicas)) + 1
			continue
		}
		no, ok := errors.AsType[*placement.NoRoomError](err)
		if !ok {
			return fmt.Errorf("place shard %s: %w", shard.Name, err)
		}
		for _, placed := range missing[:i] {
			pass.Forget(placed.Name, placed.Spec.Replicas)
		}
		r.Metrics.NoRoom.Inc()
		r.Events.Eventf(s.volume, nil, corev1.EventTypeWarning, v1alpha1.ReasonNoRoom, "Place", "%s",
			v1alpha1.Brief(no.Message, v1alpha1.MaxNote))
		s.unmade = &reconcilers.Verdict{Reason: v1alpha1.ReasonNoRoom, Message: no.Message}
		return nil
	}
	return nil
}

// shardCount is how many Shards the Volume has.
func shardCount(v *v1alpha1.Volume) int64 {
	per := max(v.Spec.ShardSizeBytes, 1)
	return (v.Spec.SizeBytes + per - 1) / per
}

// missingShards are those that are not there, without places.
func missingShards(v *v1alpha1.Volume, have []v1alpha1.Shard) []*v1alpha1.Shard {
	there := map[int32]bool{}
	for i := range have {
		there[have[i].Spec.Index] = true
	}
	var missing []*v1alpha1.Shard
	for index := range shardCount(v) {
		if there[int32(index)] {
			continue
		}
		shard := &v1alpha1.Shard{}
		shard.Name = fmt.Sprintf("%s-%d", v.Name, index)
		shard.Labels = map[string]string{reconcilers.VolumeLabel: v.Name}
		shard.Finalizers = []string{reconcilers.Finalizer}
		shard.Spec = v1alpha1.ShardSpec{
			VolumeName: v.Name, VolumeID: v.Spec.ID, Index: int32(index),
			SizeBytes:     min(v.Spec.ShardSizeBytes, v.Spec.SizeBytes-index*v.Spec.ShardSizeBytes),
			NextReplicaID: 1, MinInSync: v.Spec.NeededInSync(),
		}
		missing = append(missing, shard)
	}
	return missing
}
