package sim_test

import (
	"fmt"
	"time"

	"github.com/shale-storage/shale/storenode/store"
)

// harm does some damage, again and again.
func (w *world) harm() {
	w.after(w.between(100*time.Millisecond, 1500*time.Millisecond), func() {
		if !w.faulty {
			return
		}
		defer w.harm()
		n, other := w.nodes[w.r.IntN(nodes)], w.nodes[w.r.IntN(nodes)]
		switch kind := w.r.IntN(100); {
		case kind < 16:
			w.crash(n, false)
		case kind < 22:
			w.leave(n)
		case kind < 32:
			w.crash(n, true)
		case kind < 35:
			w.blackout()
		case kind < 45:
			w.trap = true
		case kind < 57:
			w.cutLink(n, other)
		case kind < 65:
			w.isolate(n)
		case kind < 69:
			if len(n.pipes) > 0 {
				n.loses(0)
				n.pipes[w.r.IntN(len(n.pipes))].breaks(w.between(0, 10*time.Millisecond))
			}
		case kind < 72:
			w.sicken(n)
		case kind < 77:
			w.fillSome(n)
		case kind < 79:
			w.hang(n)
		case kind < 82:
			n.pause(w.between(10*time.Millisecond, 5*time.Second))
		case kind < 86:
			w.rot(n)
		case kind < 92:
			w.register.leave(w.between(100*time.Millisecond, 4*time.Second))
		default:
			w.attach()
		}
	})
}

func (w *world) cutLink(n, other *node) {
	if n == other {
		return
	}
	both := w.chance(50)
	w.logf("cut n%d -> n%d, both ways %v", n.index+1, other.index+1, both)
	set := func(to bool) {
		w.cut[n.index][other.index] = to
		w.cut[other.index][n.index] = to && both
	}
	set(true)
	last := w.between(100*time.Millisecond, 5*time.Second)
	n.loses(last)
	other.loses(last)
	w.after(last, func() { set(false) })
}

// isolate leaves a node with nothing but its clients.
func (w *world) isolate(n *node) {
	w.logf("isolate n%d", n.index+1)
	set := func(to bool) {
		n.isolated = to
		for i := range nodes {
			w.cut[n.index][i], w.cut[i][n.index] = to, to
		}
	}
	set(true)
	last := w.between(500*time.Millisecond, 8*time.Second)
	n.loses(last)
	w.after(last, func() { set(false) })
}

func (w *world) crash(n *node, power bool) {
	if n.dead || power && !w.mayLosePower(n) {
		return
	}
	quiet := time.Duration(0)
	if power && w.chance(50) {
		quiet = silence
	}
	n.kill(power, quiet)
	w.startLater(n, 5*time.Second)
}

// leave ends a process in order: it hands over, and ends when nothing here is held any more, or when it was waited long
// enough.
func (w *world) leave(n *node) {
	if n.dead || n.left {
		return
	}
	n.left = true
	n.suffers(0)
	most := w.t + int64(w.between(0, 4*time.Second))
	n.run(0, func() {
		w.logf("n%d leaves", n.index+1)
		n.host.Leave()
		n.end(most)
	})
}

// end ends a process that leaves.
func (n *node) end(most int64) {
	n.run(20*time.Millisecond, func() {
		if n.w.t < most && n.host.Held() > 0 {
			n.end(most)
			return
		}
		n.close()
		if n.w.faulty {
			n.w.startLater(n, 5*time.Second)
		} else {
			n.start()
		}
	})
}

func (w *world) startLater(n *node, most time.Duration) {
	w.after(w.between(50*time.Millisecond, most), func() {
		if n.dead {
			n.start()
		}
	})
}

// mayLosePower: another member of InSync must keep what was acknowledged and not flushed, and stay one.
func (w *world) mayLosePower(n *node) bool {
	if w.register.deciding > 0 {
		return false
	}
	for i, r := range w.register.records {
		kept := !n.inSync(&r)
		for _, o := range w.nodes {
			kept = kept || o != n && o.inSync(&r) && !o.isLossy(i) && !o.left
		}
		if !kept {
			return false
		}
	}
	return true
}

// blackout takes the power of all at once; then only what was flushed must be there.
func (w *world) blackout() {
	w.logf("blackout")
	w.torn = true
	for _, n := range w.nodes {
		if n.dead {
			n.device = &device{Device: n.device.Crash(w.r, nil)}
			n.boot++
			continue
		}
		n.kill(true, 0)
		w.startLater(n, 2*time.Second)
	}
	for _, n := range w.nodes {
		for i := range n.lossy {
			n.lossy[i] = true
		}
	}
	for _, c := range w.clients {
		c.losePower()
	}
}

// atRest compares the Replicas when nothing happens any more.
func (w *world) atRest() {
	if w.fail != nil {
		return
	}
	for i, c := range w.clients {
		if b, ok := c.history.check(); !ok {
			w.failf("shard %d block %d: no order of its reads and writes explains them", i, b)
		}
		var first string
		for _, n := range w.holders(c.index) {
			text := n.extents(c.index)
			if first == "" {
				first = text
			}
			if text != first {
				w.failf("replicas of shard %d differ at rest:\nfirst: %s\nn%d: %s", i, first, n.index+1, text)
			}
		}
		w.readAll(c)
	}
}

// extents are the digests of a Replica's contents.
func (n *node) extents(index uint32) string {
	text := "extents"
	n.device.monitor.Enter()
	defer n.device.monitor.Leave()
	if handle, ok := n.store.Lookup(n.key(index)); ok {
		n.store.Extents(handle, 0, func(x store.ExtentInfo) bool {
			text += fmt.Sprintf(" %d:%x", x.Index, x.Digest)
			return true
		})
	}
	return text
}

// readAll checks every Block on every Replica, past replication.
func (w *world) readAll(c *client) {
	for _, n := range w.holders(c.index) {
		for _, b := range c.oracle.Blocks() {
			value, err := n.readBlock(c.index, b)
			if err == nil {
				err = c.oracle.Block(b).Seen(value, c.oracle.Block(b).Settled())
			}
			if err != nil {
				w.failf("n%d shard %d block %d at rest: %v", n.index+1, c.index, b, err)
			}
		}
	}
}

// waiter is told of the end of an IO.
type waiter struct{ done bool }

// IODone implements store.Completer.
func (x *waiter) IODone(*store.IO) { x.done = true }

func (n *node) readBlock(index uint32, b int64) (uint64, error) {
	buf := n.w.pool.Get(4096)
	defer buf.Release()
	x := &waiter{}
	var io store.IO
	n.device.monitor.Enter()
	io.Replica, _ = n.store.Lookup(n.key(index))
	io.Op, io.Offset, io.Length, io.Buf, io.Done = store.OpRead, b*4096, 4096, buf, x
	n.store.Submit(&io)
	n.store.Kick()
	n.device.monitor.Leave()
	n.device.settle()
	if !x.done {
		return 0, fmt.Errorf("read of block %d never ended", b)
	}
	if io.Err != nil {
		return 0, io.Err
	}
	return valueOf(buf.Bytes())
}
