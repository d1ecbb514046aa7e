package client

import (
	"testing"
	"time"
)

// still is a clock that only moves when the test ticks.
type still struct{}

func (still) Reset(time.Duration) bool { return true }
func (still) Stop() bool               { return true }

// openStill opens the Volume with a clock that stands still. Three nodes have all Replicas, the first one all
// Primaries; the others know the map.
func (x *cluster) openStill(t *testing.T) *Volume {
	t.Helper()
	x.mu.Lock()
	for i := range x.records {
		r := &x.records[i]
		r.Primary, r.InSync, r.Replicas = 1, r.InSync[:3], r.Replicas[:3]
	}
	x.mu.Unlock()
	o := x.options(1)
	o.AfterFunc = func(time.Duration, func()) Timer { return still{} }
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// later lets n ticks pass at once.
func (v *Volume) later(n int64) {
	v.mu.Lock()
	v.now += n
	v.mu.Unlock()
}

// connected waits until there is a connection to each node.
func (v *Volume) connected(nodes []*node) {
	for _, n := range nodes {
		until(func() bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			p := v.peerAt(n.address)
			p.want()
			return p.ready()
		})
	}
}

func TestAllReplicasOfEachShardAreToldThatThePrimaryIsNotReached(t *testing.T) {
	const shards = 8
	x := newCluster(t, 19, shards, testShard)
	v := x.openStill(t)
	v.connected(x.nodes[:3])
	x.nodes[0].set(func(n *node) { n.silent = true })
	var calls []*call
	for i := range int64(shards) {
		calls = append(calls, begin(v, OpWrite, i*testShard, 4096, pattern(4096, 1)))
	}
	v.later(pleadTicks)
	for range shards {
		v.tick()
	}
	if n := v.o.Metrics.Unreached.Load(); n != 2*shards {
		t.Fatalf("%d Replicas were told within %d ticks", n, shards)
	}
	for i, c := range calls {
		if _, err := c.end(); err != nil {
			t.Fatalf("shard %d: %v", i, err)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.yielded != shards {
		t.Errorf("%d of %d Primaries yielded", x.yielded, shards)
	}
}

// One operation may take long, and nothing else may be asked of the Primary meanwhile.
func TestAPrimaryIsAskedBeforeOthersAreToldOfIt(t *testing.T) {
	x := newCluster(t, 30, 1, testShard)
	v := x.openStill(t)
	v.connected(x.nodes)
	x.nodes[0].set(func(*node) { x.faults.swallow = 1 })
	c := begin(v, OpWrite, 0, 4096, pattern(4096, 1))
	for range 4 * pleadTicks {
		v.tick()
		if n := v.o.Metrics.Unreached.Load(); n != 0 {
			t.Fatalf("%d storenodes were told that it is not reached", n)
		}
		until(func() bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			p := v.shards[0].primary
			return v.question.link == nil && p.heard >= p.asked
		})
	}
	x.nodes[0].set(func(*node) { x.faults.swallow = 0 })
	x.nodes[0].kill()
	x.nodes[0].start()
	until(func() bool { v.tick(); return c.isOver() })
	if c.Err != nil {
		t.Error(c.Err)
	}
	c.Buffer.Release()
}

// A client that was away for long and hears of a new Primary has not tried to reach it yet.
func TestANewPrimaryHasTimeToBeReachedBeforeOthersAreToldOfIt(t *testing.T) {
	x := newCluster(t, 3, 1, testShard)
	v := x.openStill(t)
	v.connected(x.nodes[2:])
	for _, n := range x.nodes[:2] {
		n.set(func(n *node) { n.deaf = true })
	}
	begin(v, OpWrite, 0, 4096, pattern(4096, 1))
	v.later(2 * pleadTicks)
	v.mu.Lock()
	s := &v.shards[0]
	r := s.record
	r.Epoch, r.Primary = r.Epoch+1, 2
	s.adopt(r, true)
	v.mu.Unlock()
	for range pleadTicks - 1 {
		v.tick()
	}
	if n := v.o.Metrics.Unreached.Load(); n != 0 {
		t.Errorf("a Replica was told %d times already", n)
	}
	v.tick()
	if v.o.Metrics.Unreached.Load() == 0 {
		t.Error("no Replica is told")
	}
}
