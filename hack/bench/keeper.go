package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/shard"
)

// keeper keeps the membership records of the Volume, as the Kubernetes API does in a cluster: it decides proposals by
// compare-and-swap and tells all storenodes. Only the Replica that was sent away may leave InSync, and come back:
// anything else would make the figures worthless. Usually that is nobody.
//
// What it tells is sent in the order of its decisions, under mu. Storenodes read on while they speak, so that blocks
// for no longer than they take to carry it out.
type keeper struct {
	mu       sync.Mutex
	children []*child
	volume   shard.VolumeMap
	away     ident.ReplicaID
	// failed is why the figures are worthless; broken is closed then.
	failed error
	broken chan struct{}
	// changed is closed, and made anew, when any of the above has changed.
	changed chan struct{}
}

func newKeeper(o *options, volume ident.UUID) *keeper {
	return &keeper{changed: make(chan struct{}), broken: make(chan struct{}), volume: shard.VolumeMap{
		Volume: volume, Size: o.size, ShardSize: o.shardSize, Generation: 1,
		Shards: make([]membership.Record, (o.size+o.shardSize-1)/o.shardSize),
	}}
}

// create makes the Volume with a Replica on each storenode: space first, then the Records that let them serve.
func (k *keeper) create(children []*child) error {
	k.mu.Lock()
	k.children = slices.Clone(children)
	shards := k.volume.Shards
	for i := range shards {
		shards[i].Replicas = places(children)
	}
	space := order{Desired: k.desired()}
	for i, r := range shards {
		shards[i].Epoch, shards[i].Primary = 1, r.Replicas[i%len(r.Replicas)].ID
		for _, c := range r.Replicas {
			shards[i].InSync = append(shards[i].InSync, c.ID)
		}
	}
	serve := k.all()
	k.mu.Unlock()
	for _, o := range []order{space, serve} {
		for _, c := range children {
			if _, err := c.ask(o); err != nil {
				return fmt.Errorf("create volume: %w", err)
			}
		}
	}
	return nil
}

// places are the Replicas on the children's Devices.
func places(children []*child) []membership.Replica {
	var all []membership.Replica
	for i, c := range children {
		all = append(all, membership.Replica{ID: ident.ReplicaID(i + 1), Device: c.Device, Address: c.Address})
	}
	return all
}

// desired is what should be on the storenodes.
func (k *keeper) desired() []shard.Desired {
	v := &k.volume
	var all []shard.Desired
	for i, r := range v.Shards {
		all = append(all, shard.Desired{
			Shard: ident.ShardID{Volume: v.Volume, Index: uint32(i)}, Record: r, Generation: v.Generation, MinInSync: 1,
			Size: min(v.ShardSize, v.Size-int64(i)*v.ShardSize),
		})
	}
	return all
}

// all is the order that tells everything.
func (k *keeper) all() order {
	m := k.volume
	m.Shards = slices.Clone(m.Shards)
	return order{Desired: k.desired(), Map: &m}
}

// proposed decides what a storenode asks for.
func (k *keeper) proposed(by *child, p proposal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains(k.children, by) {
		return // it is being stopped
	}
	if p.Shard.Volume != k.volume.Volume || int(p.Shard.Index) >= len(k.volume.Shards) {
		k.failLocked(fmt.Errorf("storenode on %s proposes for the unknown shard %s", by.path, p.Shard))
		return
	}
	inForce := &k.volume.Shards[p.Shard.Index]
	if p.Record.Epoch == inForce.Epoch+1 {
		if err := k.expected(inForce, &p.Record); err != nil {
			k.failLocked(fmt.Errorf("shard %s at epoch %d: %w", p.Shard, p.Record.Epoch, err))
			return
		}
		// Who is where is not the storenodes' to say.
		inForce.Epoch, inForce.Primary, inForce.InSync = p.Record.Epoch, p.Record.Primary, p.Record.InSync
		k.tellLocked()
	}
	if err := by.tell(order{Decided: &proposal{p.Shard, *inForce}}); err != nil {
		k.failLocked(err)
	}
}

// expected refuses changes that are not part of what is measured.
func (k *keeper) expected(have, next *membership.Record) error {
	if next.Primary != have.Primary {
		return fmt.Errorf("replica %d would be primary instead of %d", next.Primary, have.Primary)
	}
	for _, c := range have.Replicas {
		if c.ID != k.away && next.IsInSync(c.ID) != have.IsInSync(c.ID) {
			return fmt.Errorf("in sync would be %v instead of %v", next.InSync, have.InSync)
		}
	}
	return nil
}

// tellLocked tells all storenodes everything.
func (k *keeper) tellLocked() {
	o := k.all()
	for _, c := range k.children {
		if err := c.tell(o); err != nil {
			k.failLocked(err)
		}
	}
	k.changedLocked()
}

func (k *keeper) changedLocked() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// failLocked notes the first reason why the figures are worthless.
func (k *keeper) failLocked(err error) {
	if k.failed != nil {
		return
	}
	k.failed = fmt.Errorf("the figures are worthless: %w", err)
	close(k.broken)
	k.changedLocked()
}

// silent is told of Primaries that a storenode does not hear.
func (k *keeper) silent(by *child, addresses []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Contains(k.children, by) {
		k.failLocked(fmt.Errorf("storenode on %s does not hear %v", by.path, addresses))
	}
}

// ended is told of the end of a process.
func (k *keeper) ended(c *child) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Contains(k.children, c) {
		k.failLocked(fmt.Errorf("storenode on %s has ended", c.path))
	}
}

// leaves expects the end of a storenode, for good or until it returns.
func (k *keeper) leaves(c *child) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.children = slices.DeleteFunc(k.children, func(o *child) bool { return o == c })
	k.away = k.replicaLocked(c)
}

// replicaLocked is the number of the Replicas on a storenode's Device.
func (k *keeper) replicaLocked(c *child) ident.ReplicaID {
	for _, r := range k.volume.Shards[0].Replicas {
		if r.Device == c.Device {
			return r.ID
		}
	}
	return 0
}

// returns takes a storenode back that has been started anew, at another address.
func (k *keeper) returns(c *child) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.children = append(k.children, c)
	for i := range k.volume.Shards {
		r := &k.volume.Shards[i]
		r.Replicas = slices.Clone(r.Replicas)
		for j := range r.Replicas {
			if r.Replicas[j].Device == c.Device {
				r.Replicas[j].Address = c.Address
			}
		}
	}
	k.tellLocked()
}

// errLate says that something has not happened in time.
var errLate = errors.New("it takes too long")

// wait is until all Records are so, at most for limit.
func (k *keeper) wait(ctx context.Context, limit time.Duration, so func(*membership.Record) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: more than %s", errLate, limit))
	defer cancel()
	for {
		k.mu.Lock()
		left := slices.ContainsFunc(k.volume.Shards, func(r membership.Record) bool { return !so(&r) })
		failed, changed := k.failed, k.changed
		k.mu.Unlock()
		if failed != nil || !left {
			return failed
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// failure is why the figures are worthless, if they are.
func (k *keeper) failure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failed
}
