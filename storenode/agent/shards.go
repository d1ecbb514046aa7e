package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/shard"
)

// shards makes the Host hold what Shard objects say it should.
type shards struct {
	api client.Client
	// reader reads past the cache.
	reader client.Reader
	host   shard.Manager
	places *places
	report *report
	log    *slog.Logger

	mu sync.Mutex
	// names finds the object of a Shard; it follows the cache of Shard objects.
	names map[ident.ShardID]string
	ids   map[string]ident.ShardID
	// slow are the Replicas for which a Device is being waited for; Replica 0, which is none, stands for those that an
	// Apply makes.
	slow map[ident.ReplicaKey]bool
}

// deviceWait is how long a worker waits for a Device. There are few workers, and other Devices have Shards too.
const deviceWait = 5 * time.Second

// Reconcile brings one Shard in line. Every step is idempotent, so a crash between any two is mended by the next run.
func (r *shards) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	waits := r.isWaiting(req.Name)
	err := r.bring(ctx, req)
	if errors.Is(err, errSlow) || err == nil && waits {
		return reconcile.Result{RequeueAfter: deviceWait}, nil
	}
	return reconcile.Result{}, err
}

func (r *shards) bring(ctx context.Context, req reconcile.Request) error {
	var object v1alpha1.Shard
	if err := r.api.Get(ctx, req.NamespacedName, &object); err != nil {
		if apierrors.IsNotFound(err) {
			// Data stays: an object can be missing because of a mistake. The finalizer makes sure that a wanted deletion
			// was seen while the object was there.
			r.forget(req.Name)
			return nil
		}
		return fmt.Errorf("get shard %s: %w", req.Name, err)
	}
	id, err := shardID(&object.Spec)
	if err != nil {
		return reconcile.TerminalError(fmt.Errorf("read shard %s: %w", req.Name, err))
	}
	r.remember(req.Name, id)
	if object.DeletionTimestamp != nil {
		switch kept, err := r.kept(ctx, &object); {
		case err != nil:
			return err
		case !kept:
			return r.remove(id, func(shard.Status) bool { return true })
		}
	}
	applied := r.apply(ctx, id, &object)
	if applied != nil && !errors.Is(applied, errSlow) {
		return applied
	}
	if err := r.tellGivenUp(id, &object); err != nil {
		return err
	}
	return errors.Join(applied, r.remove(id, func(s shard.Status) bool { return displaced(&object, s) }))
}

// kept reports whether a Shard that is being deleted goes on being served, because its Volume is to stay. That there is
// no such Volume is believed of the API server only: the cache may be behind, and what is given back is gone.
func (r *shards) kept(ctx context.Context, object *v1alpha1.Shard) (bool, error) {
	var volume v1alpha1.Volume
	key := client.ObjectKey{Name: object.Spec.VolumeName}
	err := r.api.Get(ctx, key, &volume)
	if apierrors.IsNotFound(err) || err == nil && volume.Spec.ID != object.Spec.VolumeID {
		volume = v1alpha1.Volume{}
		err = r.reader.Get(ctx, key, &volume)
	}
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get volume %s: %w", key.Name, err)
	}
	return volume.Keeps(object), nil
}

// apply hands the Shard to the Host when one of its Replicas belongs on a Device of this node.
func (r *shards) apply(ctx context.Context, id ident.ShardID, object *v1alpha1.Shard) error {
	local := r.places.localReplicas(&object.Spec)
	if len(local) == 0 {
		return nil
	}
	desired, err := r.desired(ctx, id, object)
	if err != nil {
		return reconcile.TerminalError(fmt.Errorf("read shard %s: %w", object.Name, err))
	}
	err = r.bounded(ident.ReplicaKey{Shard: id}, func() error { return r.host.Apply(desired) })
	if !errors.Is(err, errSlow) {
		r.report.applied(id, local, err)
	}
	switch {
	case errors.Is(err, errSlow):
		r.host.Decided(id, desired.Record) // a Replica here that is made already waits for no other's Device
		return err
	case err == nil:
		return nil
	case errors.Is(err, shard.ErrStaleRecord):
		// Trying again changes nothing: the object is older than the data. The status says so to people.
		r.log.Error("Refused an old membership record; was the API server restored from a backup?",
			"shard", object.Name, "epoch", object.Spec.Membership.Epoch, "error", err)
		return nil
	default:
		return fmt.Errorf("apply shard %s: %w", object.Name, err)
	}
}

func (r *shards) desired(ctx context.Context, id ident.ShardID, object *v1alpha1.Shard) (shard.Desired, error) {
	rec, err := record(&object.Spec, r.places.address)
	if err != nil {
		return shard.Desired{}, err
	}
	desired := shard.Desired{
		Shard: id, Size: object.Spec.SizeBytes, Record: rec, MinInSync: int(object.Spec.NeededInSync()),
	}
	var volume v1alpha1.Volume
	err = r.api.Get(ctx, client.ObjectKey{Name: object.Spec.VolumeName}, &volume)
	if err == nil && volume.Spec.ID == object.Spec.VolumeID { // another's attachments fence nobody of this one
		desired.Generation = ident.Generation(volume.Spec.AttachGeneration)
	}
	return desired, nil
}

// displaced reports whether a local Replica lost its place by a decision at least as new as all it has seen. One that a
// person gave up, and that came back, is kept until the person takes it off that list: it has acknowledged writes that
// nobody else has.
func displaced(object *v1alpha1.Shard, s shard.Status) bool {
	id := int64(s.Key.Replica)
	listed := slices.ContainsFunc(object.Spec.Replicas, func(c v1alpha1.ShardReplica) bool { return c.ID == id })
	return !listed && !object.IsGivenUp(id) && object.Spec.Membership.Epoch >= int64(s.Epoch)
}

// tellGivenUp lets a local Replica that a person gave up know of it: a Primary whose Device failed may serve yet, and
// one that was away believes what it remembers.
func (r *shards) tellGivenUp(id ident.ShardID, object *v1alpha1.Shard) error {
	for _, s := range r.host.StatusesOf(id) {
		late := int64(s.Epoch) < object.Spec.Membership.Epoch
		if !late || !object.IsGivenUp(int64(s.Key.Replica)) {
			continue
		}
		rec, err := record(&object.Spec, r.places.address)
		if err != nil {
			return reconcile.TerminalError(fmt.Errorf("read shard %s: %w", object.Name, err))
		}
		r.host.Decided(id, rec)
		return nil
	}
	return nil
}

// remove deletes the local Replicas of a Shard that match.
func (r *shards) remove(id ident.ShardID, match func(shard.Status) bool) error {
	var errs []error
	for _, s := range r.host.StatusesOf(id) {
		if !match(s) {
			continue
		}
		if err := r.bounded(s.Key, func() error { return r.host.Delete(s.Key) }); err != nil {
			errs = append(errs, fmt.Errorf("delete replica %s: %w", s.Key, err))
			continue
		}
		r.log.Info("Deleted replica", "replica", s.Key.String())
	}
	r.report.wake()
	return errors.Join(errs...)
}

// bounded waits for what a Device is to do, for a while; then it is errSlow until that has ended, and asked for again.
func (r *shards) bounded(key ident.ReplicaKey, do func() error) error {
	r.mu.Lock()
	slow := r.slow[key]
	r.slow[key] = true
	r.mu.Unlock()
	if slow {
		return errSlow
	}
	ended := make(chan error, 1)
	go func() {
		err := do()
		r.mu.Lock()
		delete(r.slow, key)
		r.mu.Unlock()
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-r.report.clock.After(deviceWait):
		return errSlow
	}
}

// isWaiting reports whether a Device is being waited for: a Replica that it makes late may be wanted no more, and
// nobody else would tell.
func (r *shards) isWaiting(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, known := r.ids[name]
	for key := range r.slow {
		if known && key.Shard == id {
			return true
		}
	}
	return false
}

func (r *shards) remember(name string, id ident.ShardID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[id], r.ids[name] = name, id
}

func (r *shards) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, r.ids[name])
	delete(r.ids, name)
}

// name is the object of a Shard.
func (r *shards) name(id ident.ShardID) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, ok := r.names[id]
	return name, ok
}

// isHeld leaves out Replicas that are being deleted, which takes as long as their Device hangs: who proposes is in the
// Record it knows, and they are told to be in none.
func isHeld(host shard.Manager, id ident.ShardID) bool {
	return slices.ContainsFunc(host.StatusesOf(id), func(s shard.Status) bool { return s.Listed })
}
