package agent

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/shard"
)

// volumes publishes the maps that clients OPEN. Any storenode can answer for any Volume.
type volumes struct {
	api    client.Client
	host   shard.Manager
	places *places

	mu  sync.Mutex
	ids map[string]ident.UUID
}

// Reconcile publishes the map of one Volume. A Volume of which not every Shard exists yet has no map.
func (r *volumes) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var volume v1alpha1.Volume
	if err := r.api.Get(ctx, req.NamespacedName, &volume); err != nil {
		if apierrors.IsNotFound(err) {
			r.unpublish(req.Name)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("get volume %s: %w", req.Name, err)
	}
	if former, ok := r.published(req.Name); ok && former.String() != volume.Spec.ID {
		r.unpublish(req.Name) // it was replaced by another of the same name
	}
	if !volume.DeletionTimestamp.IsZero() && len(volume.Spec.Attachments) == 0 {
		return reconcile.Result{}, r.retire(&volume)
	}
	m, complete, err := r.volumeMap(ctx, &volume)
	if err != nil {
		return reconcile.Result{}, reconcile.TerminalError(fmt.Errorf("map volume %s: %w", req.Name, err))
	}
	if !complete {
		return reconcile.Result{}, nil
	}
	r.mu.Lock()
	r.ids[req.Name] = m.Volume
	r.mu.Unlock()
	r.host.Publish(m)
	return reconcile.Result{}, nil
}

func (r *volumes) volumeMap(ctx context.Context, volume *v1alpha1.Volume) (shard.VolumeMap, bool, error) {
	id, err := ident.ParseUUID(volume.Spec.ID)
	if err != nil {
		return shard.VolumeMap{}, false, fmt.Errorf("read id: %w", err)
	}
	size, per := volume.Spec.SizeBytes, volume.Spec.ShardSizeBytes
	if size <= 0 || per <= 0 {
		return shard.VolumeMap{}, false, fmt.Errorf("read sizes %d and %d: not positive", size, per)
	}
	var list v1alpha1.ShardList
	if err := r.api.List(ctx, &list, client.MatchingFields{shardsByVolume: volume.Name}); err != nil {
		return shard.VolumeMap{}, false, fmt.Errorf("list shards: %w", err)
	}
	count := int((size + per - 1) / per)
	m := shard.VolumeMap{
		Volume: id, Size: size, ShardSize: per,
		Generation: ident.Generation(volume.Spec.AttachGeneration),
		Shards:     make([]membership.Record, count),
	}
	seen := 0
	var short []v1alpha1.ShardSpec
	for i := range list.Items {
		spec := &list.Items[i].Spec
		stranger := spec.VolumeID != volume.Spec.ID // of another Volume, which had the same name
		if stranger || spec.Index < 0 || int(spec.Index) >= count || spec.Membership.Epoch == 0 {
			continue
		}
		if m.Shards[spec.Index], err = record(spec, r.places.address); err != nil {
			return shard.VolumeMap{}, false, fmt.Errorf("read shard %s: %w", list.Items[i].Name, err)
		}
		seen++
		if want := min(per, size-int64(spec.Index)*per); spec.SizeBytes < want {
			short = append(short, *spec)
		}
	}
	cut(&m, short)
	return m, seen == count, nil
}

// cut ends the map where the first Shard ends that is shorter than it should be: a Volume that somebody asked to grow
// is as large as its Shards are. What lies behind would be answered with errors.
func cut(m *shard.VolumeMap, short []v1alpha1.ShardSpec) {
	for i := range short {
		end := int64(short[i].Index)*m.ShardSize + short[i].SizeBytes
		if end < m.Size {
			m.Size, m.Shards = end, m.Shards[:short[i].Index+1]
		}
	}
}

// retire is for a Volume that is being deleted and attached nowhere: its data goes. That a Volume is not to be found
// says less, such as that the API server was restored from a backup.
func (r *volumes) retire(volume *v1alpha1.Volume) error {
	id, err := ident.ParseUUID(volume.Spec.ID)
	if err != nil {
		return reconcile.TerminalError(fmt.Errorf("read id of volume %s: %w", volume.Name, err))
	}
	r.mu.Lock()
	delete(r.ids, volume.Name)
	r.mu.Unlock()
	r.host.Retire(id)
	return nil
}

// published is the ID under which a Volume's map is.
func (r *volumes) published(name string) (ident.UUID, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.ids[name]
	return id, ok
}

func (r *volumes) unpublish(name string) {
	r.mu.Lock()
	id, ok := r.ids[name]
	delete(r.ids, name)
	r.mu.Unlock()
	if ok {
		r.host.Unpublish(id)
	}
}
