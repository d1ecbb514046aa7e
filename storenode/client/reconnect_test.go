package client

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"

	"github.com/shale-storage/shale/storenode/transport"
)

// counted counts dials.
type counted struct {
	transport.Dialer
	dials atomic.Int64
}

func (c *counted) Dial(ctx context.Context, address string, h transport.Handler) (transport.Conn, error) {
	c.dials.Add(1)
	return c.Dialer.Dial(ctx, address, h)
}

// What ends a connection may be what is sent by it, which is the same again by the next one.
func TestAConnectionThatEndsWheneverItIsUsedIsMadeAgainWithPauses(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	x.nodes[0].set(func(*node) { x.faults.cutBefore = 1 })
	v.mu.Lock()
	dialer := &counted{Dialer: v.o.Dialer}
	v.o.Dialer = dialer
	v.mu.Unlock()
	c := begin(v, OpWrite, 0, 4096, pattern(4096, 1))
	until(func() bool { return v.ticks() > 3*dialTicks })
	v.mu.Lock()
	// A pause lasts for two ticks at least.
	if n := dialer.dials.Load(); n > v.now/2 {
		t.Errorf("%d connections in %d ticks", n, v.now)
	}
	v.mu.Unlock()
	x.nodes[0].set(func(*node) { x.faults.cutBefore = 0 })
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x.read(0, 4096), pattern(4096, 1)) {
		t.Error("acknowledged and not there")
	}
}

func TestAConnectionThatHasLastedIsMadeAgainAtOnce(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	do(t, v, OpWrite, 0, 4096, nil)
	x.nodes[0].set(func(n *node) { n.silent = true })
	c := begin(v, OpWrite, 0, 4096, pattern(4096, 1))
	until(func() bool { v.mu.Lock(); defer v.mu.Unlock(); return c.first.link != nil })
	v.mu.Lock()
	l := c.first.link
	l.since = v.now - shortTicks
	v.mu.Unlock()
	l.conn.Close(errCut)
	until(func() bool { v.mu.Lock(); defer v.mu.Unlock(); return c.first.link != l })
	v.mu.Lock()
	if p := l.peer; p.failures != 0 || p.dial != 0 || p.link == nil {
		t.Errorf("%d failures, the next try is at tick %d of %d", p.failures, p.dial, v.now)
	}
	v.mu.Unlock()
	x.nodes[0].set(func(n *node) { n.silent = false })
	x.nodes[0].kill()
	x.nodes[0].start()
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
}

// A storenode has room for so many connections, and each Volume asks the same ones when something is wrong.
func TestAConnectionThatNoShardNeedsIsClosedAfterAWhile(t *testing.T) {
	x := newCluster(t, 3, 1, testShard)
	v := x.openStill(t)
	v.connected(x.nodes)
	want := pattern(4096, 1)
	do(t, v, OpWrite, 0, 4096, want)
	x.promote(1, all)
	do(t, v, OpRead, 0, 4096, nil)
	v.tick()
	v.tick()
	v.mu.Lock()
	armed := v.armed
	v.mu.Unlock()
	if n := v.o.Metrics.Connections.Load(); !armed || n != 3 {
		t.Fatalf("%d connections, the clock goes on: %v", n, armed)
	}
	v.later(unusedTicks)
	until(func() bool { v.tick(); return v.o.Metrics.Connections.Load() == 1 })
	v.tick()
	v.mu.Lock()
	if v.armed || !v.shards[0].primary.ready() {
		t.Errorf("the clock goes on: %v, the Primary is connected: %v", v.armed, v.shards[0].primary.ready())
	}
	v.mu.Unlock()
	x.promote(0, all)
	if got := do(t, v, OpRead, 0, 4096, nil); !bytes.Equal(got, want) {
		t.Error("other bytes")
	}
}

func (v *Volume) ticks() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}
