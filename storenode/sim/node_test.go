package sim_test

import (
	"fmt"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/store"
	"github.com/shale-storage/shale/storenode/transport"
)

const (
	deviceSize = 64 << 20
	// scrubPass is how long the Primaries take to look through their Shards.
	scrubPass = 3 * time.Second
)

// node is a storenode: a process on a machine with a Device.
type node struct {
	w     *world
	index int
	// life counts processes; what was begun in one does not happen in another. dead: there is none.
	life int
	dead bool
	boot uint64
	host *shard.Host

	store  *store.Store
	heap   *heap
	device *device
	paused bool
	// held is what happens as soon as the process goes on.
	held []func()
	// isolated from the keeper of records.
	isolated bool
	rate     float64
	offset   int64
	// lossy: what was not flushed may be missing, by Shard, as it was when the last process ended.
	lossy [shards]bool
	// left: the process hands over, and ends soon.
	left  bool
	pipes []*pipe
	// ill is what is wrong with the Device.
	ill ill
	// unwell is when the process, and unlinked when its way to others, was last or will be other than it should be.
	unwell, unlinked int64
	// epochs that this process's Replicas were seen at.
	epochs map[ident.ReplicaKey]ident.Epoch
	// kept is what the Device must remember of its Replicas as long as the machine runs as keptBoot, safe what it must
	// in any case; doomed are those whose deletion was begun, gone those where it has ended.
	kept, safe   map[ident.ReplicaKey]store.ReplicaInfo
	keptBoot     uint64
	doomed, gone map[ident.ReplicaKey]bool
	// applying: the process is making what the record wants, by Shard.
	applying [shards]bool
}

func newNode(w *world, index int) *node {
	return &node{
		w: w, index: index, dead: true, boot: firstBoot(index),
		doomed: map[ident.ReplicaKey]bool{}, gone: map[ident.ReplicaKey]bool{},
		rate: 0.955 + 0.09*w.r.Float64(), offset: 1 + w.r.Int64N(1<<40),
	}
}

func (n *node) uuid() ident.UUID { return uuidOf(n.index) }
func (n *node) address() string  { return fmt.Sprintf("n%d:7800", n.index+1) }

// pool is the node's memory for payloads.
func (n *node) pool() *buffer.Pool {
	if n.w.scarce {
		return n.w.memory.scarce[n.index]
	}
	return n.w.pool
}

func (n *node) up() bool { return !n.dead }

func (n *node) now() replication.Instant {
	return replication.Instant(float64(n.w.t)*n.rate) + replication.Instant(n.offset)
}

// run calls f in the node's present life, unless it ends before; while the node is paused it waits.
func (n *node) run(d time.Duration, f func()) {
	life := n.life
	n.w.after(d, func() { n.deliver(life, f) })
}

func (n *node) deliver(life int, f func()) {
	switch {
	case n.life != life || n.dead:
	case n.paused:
		n.held = append(n.held, func() { n.deliver(life, f) })
	default:
		f()
	}
}

// start begins a process.
func (n *node) start() {
	n.life++
	n.suffers(0)
	n.dead, n.paused, n.left, n.held = false, false, false, nil
	n.epochs, n.applying = map[ident.ReplicaKey]ident.Epoch{}, [shards]bool{}
	name := fmt.Sprintf("n%d", n.index+1)
	n.host = shard.New(shard.Options{
		Name: name, Address: n.address(), Incarnation: uint64(n.life),
		Authority: authority{n, n.life}, Dialer: dialer{n, n.life},
		Pool: n.pool(), Timing: timing(), ScrubPass: scrubPass, Clock: n.now, Log: n.w.logger(name),
	})
	monitor := n.host.Monitor()
	fresh := n.device == nil
	if fresh {
		images, err := formatted()
		if err != nil {
			n.w.failf("%v", err)
			return
		}
		n.device = &device{Device: images[n.index].Kill(nil, nil)}
		n.device.SetWhims(n.w.whims)
	}
	n.device = newDevice(n, n.device.Device, monitor)
	n.heap = &heap{m: n.w.memory}
	options := store.Options{
		Owner: monitor, Settle: n.device.settle, Memory: n.heap, Log: n.w.logger(name), Boot: n.boot, Overcommit: 4,
	}
	var err error
	if n.store, err = store.Open(n.device, options); err != nil {
		n.w.failf("open device of %s: %v", name, err)
		return
	}
	n.remembers()
	if fresh {
		n.makeBallast()
	}
	n.device.opening = false
	if err := n.host.AddDevice(n.store); err != nil {
		n.w.failf("%v", err)
	}
	n.w.logf("%s starts, power lost %v", name, n.store.PowerLost())
	n.tick()
	n.w.register.watch(n)
}

func (n *node) tick() {
	next := n.host.Tick()
	n.run(next, n.tick)
}

// kill ends the process, and with power also what the Device did not flush. Others hear of it after silence.
func (n *node) kill(power bool, silence time.Duration) {
	if n.dead {
		return
	}
	w := n.w
	w.logf("n%d dies, power %v", n.index+1, power)
	n.suffers(0)
	n.paused, n.held = false, nil
	n.keep()
	old := n.device
	after := old.Kill
	if power {
		after = old.Crash
		n.boot++
	}
	for i := range n.lossy {
		n.lossy[i] = power || n.isLossy(i)
	}
	survivor := after(w.r, nil)
	for _, p := range n.pipes {
		p.dies(silence)
	}
	n.pipes = nil
	n.dead = true
	// The old process is taken apart, so that its memory comes back; nothing of it is heard outside any more.
	old.opening = true
	n.host.Close()
	n.host.RemoveDeviceAsync(n.uuid(), func() {})
	old.settle()
	n.heap.release()
	n.device = &device{Device: survivor}
	n.host, n.store = nil, nil
}

// close ends the process in order: its Device gets a last Checkpoint, so that a loss of power takes nothing any more.
// One that does not work is not waited for.
func (n *node) close() {
	if n.paused || n.store.Health() != nil || n.ill.reads+n.ill.writes > 0 || max(n.ill.stuck, n.ill.mute) > n.w.t {
		n.kill(false, 0)
		return
	}
	n.w.logf("n%d closes its device", n.index+1)
	n.device.opening = true // it takes no time
	n.host.RemoveDeviceAsync(n.uuid(), func() {})
	n.device.settle()
	if err := n.store.Close(); err != nil {
		n.w.failf("close device of n%d: %v", n.index+1, err)
	}
	n.kill(false, 0)
	n.safe = n.kept
}

// isLossy reports whether the Replica may miss what was not flushed, as far as the product knows: each remembers it,
// until it was made equal to others.
func (n *node) isLossy(index int) bool {
	if n.dead {
		return n.lossy[index]
	}
	handle, ok := n.store.Lookup(n.key(uint32(index)))
	if !ok {
		return false
	}
	info, err := n.store.Info(handle)
	return err == nil && info.Lossy
}

func (n *node) pause(d time.Duration) {
	if n.dead || n.paused {
		return
	}
	n.w.logf("pause n%d for %v", n.index+1, d)
	n.suffers(d)
	n.paused = true
	life := n.life
	n.w.after(d, func() {
		if n.life == life {
			n.resume()
		}
	})
}

func (n *node) resume() {
	if !n.paused {
		return
	}
	n.w.logf("resume n%d", n.index+1)
	n.paused = false
	held := n.held
	n.held = nil
	for _, f := range held {
		f()
	}
}

// settled reports whether all Replicas are at the Epoch in force and in sync, and none is left that was replaced.
func (n *node) settled() bool {
	for _, s := range n.host.Statuses() {
		if s.Key.Shard.Volume != volume {
			continue
		}
		if s.State != shard.StateInSync || s.Epoch != n.w.register.records[s.Key.Shard.Index].Epoch ||
			s.Key != n.key(s.Key.Shard.Index) {
			return false
		}
	}
	return true
}

// authority is the node's way to the keeper of records.
type authority struct {
	n    *node
	life int
}

// Propose implements shard.Authority.
func (a authority) Propose(id ident.ShardID, next membership.Record) {
	if a.n.life == a.life && !a.n.dead {
		a.n.w.register.propose(a.n, id.Index, next)
	}
}

// Unreachable implements shard.Authority.
func (a authority) Unreachable(addresses []string) {
	if a.n.life == a.life && !a.n.dead {
		a.n.w.register.unreachable(a.n, addresses)
	}
}

// dialer connects to other nodes after a while.
type dialer struct {
	n    *node
	life int
}

// Dial implements shard.Dialer.
func (d dialer) Dial(address string, h transport.Handler, done func(transport.Conn, error)) {
	if d.n.life != d.life || d.n.dead {
		return
	}
	w := d.n.w
	for _, to := range w.nodes {
		if to.address() == address {
			d.n.run(w.between(50*time.Microsecond, 3*time.Millisecond), func() { w.connect(d.n, to, h, done) })
			return
		}
	}
	w.failf("dialed %s", address)
}
