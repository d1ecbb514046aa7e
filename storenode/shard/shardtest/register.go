package shardtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/shard"
)

// maxQueued bounds what waits to be done.
const maxQueued = 1 << 16

// Register keeps membership records and tells all Hosts of changes. Make it with New.
type Register struct {
	work    chan func()
	stopped sync.WaitGroup

	// mu guards what follows, for readers outside of the goroutine.
	mu     sync.Mutex
	hosts  []*Authority
	shards map[ident.ShardID]*entry
	maps   map[ident.UUID]shard.VolumeMap
	// frozen: the keeper cannot be reached; nothing is decided.
	frozen bool
	held   []func()
}

type entry struct {
	size   int64
	record membership.Record
	// gone: deleted.
	gone bool
}

// Authority is a Host's way to the Register.
type Authority struct {
	r       *Register
	address string
	host    shard.Manager
}

var _ shard.Authority = (*Authority)(nil)

// New makes an empty Register.
func New() *Register {
	r := &Register{
		work: make(chan func(), maxQueued), shards: map[ident.ShardID]*entry{}, maps: map[ident.UUID]shard.VolumeMap{},
	}
	r.stopped.Go(func() {
		for f := range r.work {
			f()
		}
	})
	return r
}

// Close ends the Register; nothing may be asked of it afterwards.
func (r *Register) Close() {
	close(r.work)
	r.stopped.Wait()
}

// Authority is what a Host is made with.
func (r *Register) Authority() *Authority { return &Authority{r: r} }

// Join takes a Host into the cluster, under its address; Leave takes it out. The Host hears of all records.
func (a *Authority) Join(address string, host shard.Manager) {
	a.r.do(func() {
		a.r.mu.Lock()
		a.address, a.host = address, host
		a.r.hosts = append(a.r.hosts, a)
		a.r.mu.Unlock()
		a.r.tellAll(a)
	})
}

// Leave takes the Host out of the cluster: nothing is told to it any more.
func (a *Authority) Leave() {
	a.r.do(func() {
		a.r.mu.Lock()
		defer a.r.mu.Unlock()
		a.r.hosts = slices.DeleteFunc(a.r.hosts, func(o *Authority) bool { return o == a })
	})
}

// do runs f on the goroutine and waits.
func (r *Register) do(f func()) {
	done := make(chan struct{})
	r.work <- func() { f(); close(done) }
	<-done
}

// Propose implements shard.Authority.
func (a *Authority) Propose(id ident.ShardID, next membership.Record) {
	a.r.later(func() {
		a.r.swap(id, next)
		if a.host != nil {
			a.host.Decided(id, a.r.Record(id))
		}
	})
}

// Unreachable implements shard.Authority: an InSync Backup of whoever reports takes over.
func (a *Authority) Unreachable(addresses []string) {
	addresses = slices.Clone(addresses)
	a.r.later(func() {
		for id, record := range a.r.records() {
			primary, ok := record.Find(record.Primary)
			if ok && slices.Contains(addresses, primary.Address) {
				a.r.promote(id, record, a.address)
			}
		}
	})
}

// later queues f, or holds it back while the keeper cannot be reached.
func (r *Register) later(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen {
		r.held = append(r.held, f)
		return
	}
	r.work <- f
}

// Freeze makes the keeper unreachable, Thaw lets it decide what was asked meanwhile.
func (r *Register) Freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = true
}

// Thaw is the opposite of Freeze.
func (r *Register) Thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = false
	for _, f := range r.held {
		r.work <- f
	}
	r.held = nil
}

// swap is the compare-and-swap; all Hosts hear of a change.
func (r *Register) swap(id ident.ShardID, next membership.Record) {
	r.mu.Lock()
	e := r.shards[id]
	won := e != nil && !e.gone && e.record.Epoch == next.Epoch-1
	if won {
		e.record = next
	}
	r.mu.Unlock()
	if won {
		r.tell(id)
	}
}

// promote makes the Replica at address the Primary, if it is InSync.
func (r *Register) promote(id ident.ShardID, record membership.Record, address string) {
	for _, c := range record.Replicas {
		if c.Address != address || !record.IsInSync(c.ID) || c.ID == record.Primary {
			continue
		}
		next := record
		next.Epoch, next.Primary = record.Epoch+1, c.ID
		next.InSync = slices.DeleteFunc(slices.Clone(record.InSync), func(o ident.ReplicaID) bool {
			return o == record.Primary
		})
		r.swap(id, next)
		return
	}
}

// Record of a Shard.
func (r *Register) Record(id ident.ShardID) membership.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.shards[id]; e != nil {
		return e.record
	}
	return membership.Record{}
}

func (r *Register) records() map[ident.ShardID]membership.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[ident.ShardID]membership.Record{}
	for id, e := range r.shards {
		all[id] = e.record
	}
	return all
}

// tell makes all Hosts apply the Record of a Shard, and publishes the map it is part of.
func (r *Register) tell(id ident.ShardID) {
	for _, a := range r.everybody() {
		_ = r.apply(a, id) // a Host that refuses shows it in its Statuses
	}
	r.publish(id.Volume)
}

func (r *Register) everybody() []*Authority {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.hosts)
}

func (r *Register) apply(a *Authority, id ident.ShardID) error {
	r.mu.Lock()
	e := *r.shards[id]
	generation := r.maps[id.Volume].Generation
	r.mu.Unlock()
	if e.gone {
		return nil
	}
	return a.host.Apply(shard.Desired{Shard: id, Size: e.size, Record: e.record, Generation: generation, MinInSync: 1})
}

func (r *Register) tellAll(a *Authority) {
	r.mu.Lock()
	var ids []ident.ShardID
	for id := range r.shards {
		ids = append(ids, id)
	}
	var volumes []ident.UUID
	for id := range r.maps {
		volumes = append(volumes, id)
	}
	r.mu.Unlock()
	for _, id := range ids {
		_ = r.apply(a, id) // as above
	}
	for _, id := range volumes {
		r.publish(id)
	}
}

func (r *Register) publish(id ident.UUID) {
	r.mu.Lock()
	m, ok := r.maps[id]
	if ok {
		m.Shards = slices.Clone(m.Shards)
		for i := range m.Shards {
			m.Shards[i] = r.shards[ident.ShardID{Volume: id, Index: uint32(i)}].record
		}
	}
	r.mu.Unlock()
	if !ok {
		return
	}
	for _, a := range r.everybody() {
		a.host.Publish(m)
	}
}

// CreateVolume makes the Shards of a Volume with the given Replicas each, in two steps as the operator does: space
// first, then Epoch 1 with the Primary in turn.
func (r *Register) CreateVolume(m shard.VolumeMap, replicas []membership.Replica) error {
	count := int((m.Size + m.ShardSize - 1) / m.ShardSize)
	m.Shards = make([]membership.Record, count)
	var errs []error
	r.do(func() {
		for i := range count {
			id := ident.ShardID{Volume: m.Volume, Index: uint32(i)}
			size := min(m.ShardSize, m.Size-int64(i)*m.ShardSize)
			r.set(id, &entry{size: size, record: membership.Record{Replicas: replicas}})
			for _, a := range r.everybody() {
				errs = append(errs, r.apply(a, id))
			}
		}
		if errors.Join(errs...) != nil {
			return
		}
		r.mu.Lock()
		r.maps[m.Volume] = m
		r.mu.Unlock()
		for i := range count {
			id := ident.ShardID{Volume: m.Volume, Index: uint32(i)}
			next := r.Record(id)
			next.Epoch, next.Primary = 1, replicas[i%len(replicas)].ID
			for _, c := range replicas {
				next.InSync = append(next.InSync, c.ID)
			}
			r.swap(id, next)
		}
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("create volume %s: %w", m.Volume, err)
	}
	return nil
}

func (r *Register) set(id ident.ShardID, e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shards[id] = e
}

// Move gives Replicas of all Shards their new addresses.
func (r *Register) Move(device ident.UUID, address string) {
	r.do(func() {
		for id, record := range r.records() {
			record.Replicas = slices.Clone(record.Replicas)
			for i := range record.Replicas {
				if record.Replicas[i].Device == device {
					record.Replicas[i].Address = address
				}
			}
			r.mu.Lock()
			r.shards[id].record = record
			r.mu.Unlock()
			r.tell(id)
		}
	})
}

// Set writes a Record as it is, whatever was there: an operator's decision, or a keeper that was set back. The Hosts'
// refusals are returned.
func (r *Register) Set(id ident.ShardID, record membership.Record) error {
	var errs []error
	r.do(func() {
		r.mu.Lock()
		r.shards[id].record = record
		r.mu.Unlock()
		for _, a := range r.everybody() {
			errs = append(errs, r.apply(a, id))
		}
		r.publish(id.Volume)
	})
	return errors.Join(errs...)
}

// Delete takes a Shard out of the Register and off all Hosts.
func (r *Register) Delete(id ident.ShardID) error {
	var errs []error
	r.do(func() {
		r.mu.Lock()
		e := r.shards[id]
		e.gone = true
		delete(r.maps, id.Volume)
		r.mu.Unlock()
		for _, a := range r.everybody() {
			for _, c := range e.record.Replicas {
				errs = append(errs, a.host.Delete(ident.ReplicaKey{Shard: id, Replica: c.ID}))
			}
		}
	})
	return errors.Join(errs...)
}
