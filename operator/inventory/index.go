package inventory

import (
	"context"
	"errors"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// Names of the cache's indexes.
const (
	shardsByVolume = "spec.volumeName"
	shardsByDevice = "devices"
	devicesByNode  = "spec.nodeName"
	devicesByPool  = "spec.poolName"
	volumesByPool  = "spec.poolName"
)

// Index makes the indexes that Inventory reads by; devices tells on which Devices a Shard has something. Call it before
// the cache starts.
func Index(ctx context.Context, i client.FieldIndexer, devices func(*v1alpha1.Shard) []string) error {
	return errors.Join(
		i.IndexField(ctx, &v1alpha1.Shard{}, shardsByVolume, shardKey(func(s *v1alpha1.Shard) []string {
			return []string{s.Spec.VolumeName}
		})),
		i.IndexField(ctx, &v1alpha1.Shard{}, shardsByDevice, shardKey(devices)),
		i.IndexField(ctx, &v1alpha1.Device{}, devicesByNode, deviceKey(func(d *v1alpha1.Device) string {
			return d.Spec.NodeName
		})),
		i.IndexField(ctx, &v1alpha1.Device{}, devicesByPool, deviceKey(func(d *v1alpha1.Device) string {
			return d.Spec.PoolName
		})),
		i.IndexField(ctx, &v1alpha1.Volume{}, volumesByPool, func(o client.Object) []string {
			if v, ok := o.(*v1alpha1.Volume); ok {
				return []string{v.Spec.PoolName}
			}
			return nil
		}),
	)
}

func shardKey(key func(*v1alpha1.Shard) []string) client.IndexerFunc {
	return func(o client.Object) []string {
		if s, ok := o.(*v1alpha1.Shard); ok {
			return key(s)
		}
		return nil
	}
}

func deviceKey(key func(*v1alpha1.Device) string) client.IndexerFunc {
	return func(o client.Object) []string {
		if d, ok := o.(*v1alpha1.Device); ok {
			return []string{key(d)}
		}
		return nil
	}
}

// ShardsOfVolume are the Shards of one Volume. They are the cache's own: read only.
func (i *Inventory) ShardsOfVolume(ctx context.Context, volume string) ([]v1alpha1.Shard, error) {
	return i.shards(ctx, client.MatchingFields{shardsByVolume: volume})
}

// ShardsOnDevice are the Shards that have something on the Device. They are the cache's own: read only.
func (i *Inventory) ShardsOnDevice(ctx context.Context, device string) ([]v1alpha1.Shard, error) {
	return i.shards(ctx, client.MatchingFields{shardsByDevice: device})
}

// ShardsOnNode are the names of the Shards that have something on a Device of the node, each once.
func (i *Inventory) ShardsOnNode(ctx context.Context, node string) ([]string, error) {
	devices, err := i.devices(ctx, client.MatchingFields{devicesByNode: node})
	if err != nil {
		return nil, err
	}
	var names []string
	seen := map[string]bool{}
	for _, d := range devices {
		shards, err := i.ShardsOnDevice(ctx, d.Name)
		if err != nil {
			return nil, err
		}
		for j := range shards {
			if name := shards[j].Name; !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// DevicesOfPool are the Devices of the Pool, candidates that were refused included. Read only.
func (i *Inventory) DevicesOfPool(ctx context.Context, pool string) ([]v1alpha1.Device, error) {
	return i.devices(ctx, client.MatchingFields{devicesByPool: pool})
}

// VolumesOfPool are the Volumes that take their Devices from the Pool. Read only.
func (i *Inventory) VolumesOfPool(ctx context.Context, pool string) ([]v1alpha1.Volume, error) {
	var list v1alpha1.VolumeList
	err := i.api.List(ctx, &list, client.MatchingFields{volumesByPool: pool}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list volumes of pool %s: %w", pool, err)
	}
	return list.Items, nil
}

func (i *Inventory) shards(ctx context.Context, where client.MatchingFields) ([]v1alpha1.Shard, error) {
	var list v1alpha1.ShardList
	if err := i.api.List(ctx, &list, where, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list shards: %w", err)
	}
	return list.Items, nil
}

func (i *Inventory) devices(ctx context.Context, where client.MatchingFields) ([]v1alpha1.Device, error) {
	var list v1alpha1.DeviceList
	if err := i.api.List(ctx, &list, where, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return list.Items, nil
}
