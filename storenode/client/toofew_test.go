package client

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// ages lets the Volume's clock jump to behind the patience for changes. What is on its way was sent just before.
func ages(v *Volume) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now += tooFewTicks
	s := v.active[0]
	for id := s.lowest; id < s.next; id++ {
		if p := s.find(id); p != nil && p.link != nil {
			p.sent = v.now
		}
	}
}

func TestChangesWaitForReplicasInSyncWhileReadsAndFlushesGoOn(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	m := v.o.Metrics
	do(t, v, OpWrite, 0, 4096, pattern(4096, 1))
	x.nodes[0].set(func(n *node) { n.short = true })
	// More than a session's window of them, so that some wait without a number.
	calls := []*call{begin(v, OpDiscard, 256<<10, 4096, nil), begin(v, OpWriteZeroes, 512<<10, 4096, nil)}
	for i := range window + 20 {
		calls = append(calls, begin(v, OpWrite, 4096, 4096, pattern(4096, uint64(i))))
	}
	until(func() bool { return m.TooFew.Load() > 2*window })
	x.nodes[0].set(func(n *node) { n.short = false })
	for i, c := range calls {
		if _, err := c.end(); err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
	}
	x.nodes[0].set(func(n *node) { n.short = true })
	waits := begin(v, OpWrite, 8192, 4096, pattern(4096, 3))
	until(func() bool { return v.isShort(0) })
	if got := do(t, v, OpRead, 0, 4096, nil); !bytes.Equal(got, pattern(4096, 1)) {
		t.Error("a read meanwhile gives other bytes")
	}
	do(t, v, OpFlush, 0, 0, nil)
	x.nodes[0].set(func(n *node) { n.short = false })
	if _, err := waits.end(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x.read(8192, 4096), pattern(4096, 3)) {
		t.Error("acknowledged and not there")
	}
}

func TestAChangeThatTooFewReplicasHaveForLongFailsAndSaysWhy(t *testing.T) {
	x := newCluster(t, 1, 2, testShard)
	v := x.open(t)
	x.nodes[0].set(func(n *node) { n.short = true })
	c := begin(v, OpWrite, testShard, 4096, pattern(4096, 1))
	until(func() bool { return v.isShort(1) })
	ages(v)
	_, err := c.end()
	if !errors.Is(err, ErrTooFew) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"shard 1", "1 replicas are in sync", "minInSync is 2"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	// The next one has as much time, and the Volume is as good as before.
	c = begin(v, OpWrite, testShard, 4096, pattern(4096, 2))
	x.nodes[0].set(func(n *node) { n.short = false })
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
	if got := do(t, v, OpRead, testShard, 4096, nil); !bytes.Equal(got, pattern(4096, 2)) {
		t.Error("other bytes")
	}
}

// Time alone fails nothing: a Primary must say that it has too few.
func TestAChangeWithoutAPrimaryWaitsForLongerThanOneWithTooFewReplicas(t *testing.T) {
	x := newCluster(t, 2, 1, testShard)
	v := x.open(t)
	x.nodes[0].set(func(n *node) { n.short = true })
	c := begin(v, OpWrite, 0, 4096, pattern(4096, 1))
	until(func() bool { return v.isShort(0) })
	x.nodes[0].kill()
	until(func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.shards[0].primary.failures > 0
	})
	ages(v)
	x.promote(1, all)
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
	if v.isShort(0) {
		t.Error("still short after a change went through")
	}
}

// A copy may still be on its way there, and would be taken for a new change once enough Replicas are in sync.
func TestAChangeWhoseConnectionWasLostDoesNotFailSoonAfter(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	x.nodes[0].set(func(n *node) { n.short = true })
	c := begin(v, OpWrite, 0, 4096, pattern(4096, 1))
	until(func() bool { return v.isShort(0) })
	x.nodes[0].set(func(n *node) { n.silent = true })
	since := v.ticks()
	until(func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return c.first.link != nil && c.first.sent > since // which is not answered
	})
	ages(v)
	x.nodes[0].kill()
	x.nodes[0].set(func(n *node) { n.silent = false })
	refused := v.o.Metrics.TooFew.Load()
	x.nodes[0].start()
	until(func() bool { return v.o.Metrics.TooFew.Load() > refused+1 || v.o.Metrics.Failed.Load() > 0 })
	x.nodes[0].set(func(n *node) { n.short = false })
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
}

func (v *Volume) isShort(i int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.shards[i].short
}
