package shard

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/store"
)

var (
	// ErrMissing refuses to make an empty Replica in place of one that, by its Record, holds data.
	ErrMissing = errors.New("the membership record says that the device holds this replica's data, but it does not; " +
		"once the primary has taken it out of inSync it is built anew")
	// ErrSize refuses a Replica of another size.
	ErrSize = errors.New("the replica exists with another size")
	// ErrDeleting refuses a Replica that is being deleted.
	ErrDeleting = errors.New("the replica is being deleted")
)

// Apply implements Manager.
func (h *Host) Apply(d Desired) error {
	parts := h.places(&d)
	results := make(chan error, len(parts))
	for _, p := range parts {
		h.apply(p, &d, func(err error) { results <- err })
	}
	var errs []error
	for range parts {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// ApplyAsync is Apply for who must not wait; all events of one Host come from one goroutine then.
func (h *Host) ApplyAsync(d Desired, done func(error)) {
	parts := h.places(&d)
	left, first := len(parts)+1, error(nil)
	one := func(err error) {
		if first == nil {
			first = err
		}
		if left--; left == 0 {
			done(first)
		}
	}
	for _, p := range parts {
		h.apply(p, &d, one)
	}
	one(nil)
}

// place is a Replica of a Record whose Device is here.
type place struct {
	monitor *Monitor
	key     ident.ReplicaKey
}

func (h *Host) places(d *Desired) []place {
	var here []place
	for _, c := range d.Record.Replicas {
		if m := h.monitorOf(c.Device); m != nil {
			here = append(here, place{m, ident.ReplicaKey{Shard: d.Shard, Replica: c.ID}})
		}
	}
	return here
}

// apply makes it so for one Replica; done is called inside its monitor.
func (h *Host) apply(p place, d *Desired, done func(error)) {
	p.monitor.Enter()
	defer p.monitor.Leave()
	if r := h.find(p); r != nil {
		done(r.apply(d))
		return
	}
	if !h.serves(p.monitor) {
		done(nil) // the Device is not here any more
		return
	}
	if h.isDoomed(p) {
		done(fmt.Errorf("apply replica %s: %w", p.key, ErrDeleting))
		return
	}
	if d.Record.Epoch > 0 && d.Record.IsInSync(p.key.Replica) {
		done(fmt.Errorf("apply replica %s: %w", p.key, ErrMissing))
		return
	}
	// It is flushed before anybody counts on it: a Record that names it must not outlive it.
	s := p.monitor.store
	s.CreateReplica(p.key, d.Size, func(handle store.Handle, err error) {
		if err != nil {
			done(err)
			return
		}
		s.Submit(&store.IO{Op: store.OpFlush, Replica: handle, Done: &created{h, p, handle, *d, done}})
	})
}

// created waits for the flush behind the making of a Replica.
type created struct {
	h      *Host
	place  place
	handle store.Handle
	d      Desired
	done   func(error)
}

// IODone implements store.Completer.
func (c *created) IODone(io *store.IO) {
	if io.Err != nil {
		c.done(fmt.Errorf("create replica %s: %w", c.place.key, io.Err))
		return
	}
	if !c.h.serves(c.place.monitor) {
		c.done(nil) // the Device is not here any more
		return
	}
	r := c.h.find(c.place)
	if r == nil {
		info, err := c.place.monitor.store.Info(c.handle)
		if err != nil {
			c.done(fmt.Errorf("create replica %s: %w", c.place.key, err))
			return
		}
		r = c.h.add(c.place.monitor, c.handle, info)
	}
	c.done(r.apply(&c.d))
}

func (h *Host) isDoomed(p place) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.ContainsFunc(h.doomed, func(r *replica) bool { return r.key == p.key && r.monitor == p.monitor })
}

func (h *Host) find(p place) *replica {
	if r := h.lookup(p.key.Shard, p.key.Replica); r != nil && r.monitor == p.monitor && !r.closed {
		return r
	}
	return nil
}

// apply adopts what is newer, inside the monitor. Nothing that is refused keeps the rest from being enforced: an
// attachment that was fenced must not write here because the Record is old too, and a Primary that was replaced must
// not serve because the size is another. Only how many must be in sync is not taken from an object whose Record is
// refused: it may ask for fewer than the newest does.
func (r *replica) apply(d *Desired) error {
	r.fence(d.Generation)
	if err := r.adopt(d.Record); err != nil {
		return fmt.Errorf("apply replica %s at epoch %d: %w", r.key, d.Record.Epoch, err)
	}
	r.require(d.MinInSync)
	if r.size != d.Size {
		return fmt.Errorf("apply replica %s: %d bytes, wanted %d: %w", r.key, r.size, d.Size, ErrSize)
	}
	return nil
}

func (r *replica) require(minInSync int) {
	if minInSync > 0 && !r.closed {
		r.machine.Require(r.host.o.Clock(), minInSync)
		r.touch()
	}
}

func (r *replica) fence(g ident.Generation) {
	if g > 0 && !r.closed {
		r.machine.Fence(r.host.o.Clock(), g)
		r.touch()
	}
}

// Decided implements Manager.
func (h *Host) Decided(shard ident.ShardID, inForce membership.Record) {
	for _, r := range h.of(shard) {
		r.monitor.Enter()
		if !r.closed {
			if err := r.adopt(inForce); err != nil {
				h.o.Log.Warn("Refused a decision", "replica", r.key, "epoch", inForce.Epoch, "error", err)
			}
		}
		r.monitor.Leave()
	}
}

func (h *Host) of(shard ident.ShardID) []*replica {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.shards[shard]
}

// Delete implements Manager.
func (h *Host) Delete(key ident.ReplicaKey) error {
	done := make(chan error, 1)
	h.DeleteAsync(key, func(err error) { done <- err })
	return <-done
}

// DeleteAsync is Delete for who must not wait.
func (h *Host) DeleteAsync(key ident.ReplicaKey, done func(error)) {
	r := h.has(key)
	if r == nil {
		done(nil)
		return
	}
	r.monitor.Enter()
	defer r.monitor.Leave()
	switch {
	case r.deletion != nil && r.deletion.over:
		done(nil)
	case !h.serves(r.monitor):
		done(fmt.Errorf("delete replica %s: %w", key, errRemoved))
	default:
		r.delete(done)
	}
}

// has finds a Replica, in service or being deleted.
func (h *Host) has(key ident.ReplicaKey) *replica {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, r := range slices.Concat(h.shards[key.Shard], h.doomed) {
		if r.key == key {
			return r
		}
	}
	return nil
}

// deletion of a Replica. The Replica is told of until its Device has given its space back for good: who was told that
// it has, forgets the Replica. With a Device that fails, hangs, or loses power, nobody would ask again, and the space
// would be lost with the object gone.
type deletion struct {
	// asked: the Store is at it, or is going to be once nothing of the Replica is in flight. over: it is gone.
	asked, over bool
	// err is why the last try failed.
	err error
	// waiting are those who want to know.
	waiting []func(error)
}

// delete begins a deletion, tries one again that failed, or waits for one under way. Inside the monitor.
func (r *replica) delete(done func(error)) {
	if r.deletion == nil {
		r.deletion = &deletion{}
		r.host.doom(r)
	}
	r.deletion.waiting = append(r.deletion.waiting, done)
	if r.deletion.asked {
		return
	}
	r.deletion.asked = true
	r.close(func() {
		r.inFlight++
		r.monitor.store.DeleteReplica(r.key, r.deleted)
	})
}

// deleted is the end of a try.
func (r *replica) deleted(err error) {
	d := r.deletion
	d.asked, d.over, d.err = false, err == nil, nil
	if err != nil {
		d.err = fmt.Errorf("delete replica %s: %w", r.key, err)
	} else {
		r.host.drop(r)
	}
	waiting := d.waiting
	d.waiting = nil
	for _, done := range waiting {
		done(d.err)
	}
	r.inFlight--
	r.drain()
}

// Statuses implements Manager.
func (h *Host) Statuses() []Status {
	h.mu.RLock()
	replicas := slices.Concat(h.replicas, h.doomed)
	h.mu.RUnlock()
	return statuses(replicas)
}

// StatusesOf implements Manager.
func (h *Host) StatusesOf(shard ident.ShardID) []Status {
	h.mu.RLock()
	replicas := slices.Clone(h.shards[shard])
	for _, r := range h.doomed {
		if r.key.Shard == shard {
			replicas = append(replicas, r)
		}
	}
	h.mu.RUnlock()
	return statuses(replicas)
}

func statuses(replicas []*replica) []Status {
	all := make([]Status, 0, len(replicas))
	for _, r := range replicas {
		r.monitor.Enter()
		switch {
		case !r.closed:
			all = append(all, r.status())
		case r.deletion != nil && !r.deletion.over:
			all = append(all, r.parting())
		}
		r.monitor.Leave()
	}
	return all
}

// parting is what is shown of a Replica that is being deleted. One that never held data is not shown as failed: that
// would say that its Device has refused it.
func (r *replica) parting() Status {
	st := Status{
		Key: r.key, Device: r.monitor.store.Device(), State: StateFailed, Epoch: r.view.Load().record.Epoch,
		Findings: r.findings, Message: "it is being deleted",
	}
	if st.Epoch == 0 {
		st.State = StateCreated
	}
	if info, err := r.monitor.store.Info(r.handle); err == nil {
		st.UsedBytes = info.UsedBytes
	}
	if r.deletion.err != nil {
		st.Message = fmt.Sprintf("it is being deleted, which has failed and is tried again: %v", r.deletion.err)
	}
	return st
}

// status is what is shown of the Replica, inside its monitor.
func (r *replica) status() Status {
	s := r.machine.Status()
	st := Status{
		Key: r.key, Device: r.monitor.store.Device(), Primary: s.Role == replication.RolePrimary,
		Epoch: s.Record.Epoch, Message: s.Message, LostBlocks: s.Lost, Findings: r.findings,
		PowerLost: s.PowerLost, Disputed: s.Disputed, Listed: s.Record.Has(r.key.Replica),
		Scrub: r.scrubStatus(),
	}
	if s.Lost > 0 && st.Message == "" {
		st.Message = fmt.Sprintf("%d Blocks can be read from no Replica until they are written again", s.Lost)
	}
	if info, err := r.monitor.store.Info(r.handle); err == nil {
		st.UsedBytes = info.UsedBytes
	}
	switch {
	case r.monitor.store.Health() != nil:
		st.State, st.Message = StateFailed, r.monitor.store.Health().Error()
	case s.Record.Epoch == 0:
		st.State = StateCreated
	case s.Record.IsInSync(r.key.Replica):
		st.State = StateInSync
	case s.Role == replication.RoleJoining:
		st.State, st.RebuildPercent = StateRebuilding, s.Progress*100/replication.Whole
		r.estimate.See(time.Duration(r.host.o.Clock()), s.Progress)
		st.RebuildLeft, _ = r.estimate.Left()
	default:
		st.State = StateStale
	}
	return st
}
