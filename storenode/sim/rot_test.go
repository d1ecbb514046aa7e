package sim_test

import (
	"bytes"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
)

// decay is Blocks that rot as soon as the Journal says that they have arrived. What rots before, and whose process ends
// before it says so, is taken for what never arrived; that is among what the fault model does not survive.
type decay struct {
	n    *node
	life int
	// last frame of the Journal when they were chosen.
	last uint64
	at   []int64
	// content when they were chosen: what was written since stays whole.
	content [][]byte
	tries   int
}

// rot flips bits of Blocks at rest, of one node in a run. While it is alone in sync there is no other copy.
func (w *world) rot(n *node) {
	if w.rotten == nil {
		w.rotten = n
	}
	if n = w.rotten; n.dead {
		return
	}
	g, err := layout.NewGeometry(deviceSize)
	if err != nil {
		w.failf("%v", err)
		return
	}
	d := &decay{n: n, life: n.life}
	d.last, _ = n.store.Noted()
	for range 1 + w.r.IntN(8) {
		block := (extentBlocks - 4 + w.r.IntN(12)) % extentBlocks
		at := g.ExtentStart(uint32(w.r.IntN(4*shards))) + int64(block)*ident.BlockSize
		d.at, d.content = append(d.at, at), append(d.content, n.device.peek(at))
	}
	d.wait()
}

func (d *device) peek(at int64) []byte {
	b := make([]byte, ident.BlockSize)
	d.Peek(b, at)
	return b
}

// wait until they have arrived for good.
func (d *decay) wait() {
	const most = 40
	w := d.n.w
	w.after(100*time.Millisecond, func() {
		if d.n.life != d.life || d.n.dead || d.tries == most || !w.faulty {
			return
		}
		if _, noted := d.n.store.Noted(); noted >= d.last {
			d.strike()
			return
		}
		d.tries++
		d.wait()
	})
}

func (d *decay) strike() {
	n, w := d.n, d.n.w
	w.logf("blocks of n%d rot", n.index+1)
	for i, at := range d.at {
		offset, bit := w.r.Int64N(ident.BlockSize), w.r.IntN(8)
		if bytes.Equal(n.device.peek(at), d.content[i]) {
			n.device.Corrupt(at+offset, bit)
		}
	}
	for _, r := range w.register.records {
		w.torn = w.torn || len(r.InSync) == 1 && n.inSync(&r)
	}
}
