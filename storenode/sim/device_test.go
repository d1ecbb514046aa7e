package sim_test

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/mem"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/store"
)

// errSick is how requests to a failing Device end.
var errSick = errors.New("input/output error")

// device completes what was submitted after a while, in any order.
type device struct {
	*mem.Device
	n       *node
	life    int
	monitor *shard.Monitor
	opening bool
	// stepped is step, in this process's life.
	stepped func()
	// failed are requests that never reach the medium, delayed those that do not yet.
	failed, delayed []*engine.Request
}

// ill is what is wrong with a node's Device, whichever process uses it.
type ill struct {
	// stuck until then: nothing ends. mute until then: no read begins.
	stuck, mute int64
	// slow until then: all takes long.
	slow int64
	// reads and writes fail, in so many of a hundred.
	reads, writes float64
	// full: the ballast leaves no room.
	full bool
}

func (i *ill) fails(w *world, r *engine.Request) bool {
	if r.Op == engine.OpRead {
		return i.reads > 0 && w.chance(i.reads)
	}
	return i.writes > 0 && w.chance(i.writes)
}

// whims are what the Devices of a run do besides what they must, each in half of the runs.
func whims(seed uint64) mem.Whims {
	chance := rand.New(rand.NewPCG(seed, 8))
	return mem.Whims{
		Chance: chance, Early: chance.IntN(2) == 0, Discards: chance.IntN(2) == 0, Unreadable: chance.IntN(2) == 0,
	}
}

// newDevice is what a process sees of a node's Device.
func newDevice(n *node, medium *mem.Device, monitor *shard.Monitor) *device {
	d := &device{Device: medium, n: n, life: n.life, monitor: monitor, opening: true}
	step := d.step
	d.stepped = func() { n.deliver(d.life, step) }
	return d
}

// Submit implements engine.Device.
func (d *device) Submit(r *engine.Request) {
	if d.opening {
		d.Device.Submit(r)
		return
	}
	switch {
	case d.n.ill.fails(d.n.w, r):
		d.failed = append(d.failed, r)
	case r.Op == engine.OpRead && d.n.ill.mute > d.n.w.t:
		d.delayed = append(d.delayed, r)
	default:
		d.Device.Submit(r)
	}
	d.n.w.after(d.latency(), d.stepped)
}

// Pending is the number of requests that have not ended.
func (d *device) Pending() int { return d.Device.Pending() + len(d.failed) + len(d.delayed) }

func (d *device) step() {
	w := d.n.w
	if wait := d.n.ill.stuck - w.t; wait > 0 {
		d.stepLater(wait)
		return
	}
	if wait := d.n.ill.mute - w.t; wait > 0 && d.Device.Pending() == 0 && len(d.failed) == 0 && len(d.delayed) > 0 {
		d.stepLater(wait)
		return
	}
	if d.n.ill.mute <= w.t {
		d.goOn()
	}
	d.complete(w.r.IntN(max(d.Device.Pending(), 1)))
}

// stepLater looks again when the hang may be over; it may end early.
func (d *device) stepLater(wait int64) {
	d.n.w.after(min(time.Duration(wait), 50*time.Millisecond), d.stepped)
}

// goOn has the medium take what was delayed.
func (d *device) goOn() {
	for _, r := range d.delayed {
		d.Device.Submit(r)
	}
	d.delayed = d.delayed[:0]
}

// complete ends one request, of those that fail first.
func (d *device) complete(i int) {
	d.monitor.Enter()
	defer d.monitor.Leave()
	switch {
	case len(d.failed) > 0:
		r := d.failed[0]
		d.failed = d.failed[1:]
		r.Err = errSick
		r.Done.Complete(r)
	case d.Device.Pending() > 0:
		d.Step(i)
	}
}

// settle completes all that there is: for opening, and for the end of a process that nobody sees.
func (d *device) settle() {
	d.goOn()
	for d.Pending() > 0 {
		d.complete(0)
	}
}

// sicken has a Device fail for a while. A Store that could not write takes nothing any more, so then the process is
// started anew.
func (w *world) sicken(n *node) {
	if n.dead || n.ill.reads+n.ill.writes > 0 {
		return
	}
	w.sick = true
	if w.chance(60) {
		n.ill.writes = 100 * w.r.Float64()
	} else {
		n.ill.reads, w.unread = 100*w.r.Float64(), true
	}
	w.logf("the device of n%d fails %.0f%% of reads, %.0f%% of writes", n.index+1, n.ill.reads, n.ill.writes)
	last := w.between(100*time.Millisecond, 4*time.Second)
	n.suffers(last)
	w.after(last, n.recover)
}

// hang has a Device do nothing for a while, or read nothing: longer, now and then, than anybody waits for it.
func (w *world) hang(n *node) {
	most := 6 * time.Second
	if w.chance(25) {
		most = 20 * time.Second
	}
	last := w.between(10*time.Millisecond, most)
	until := &n.ill.stuck
	if w.chance(40) {
		until = &n.ill.mute
	}
	*until = w.t + int64(last)
	n.suffers(last)
	w.logf("the device of n%d hangs for %v, reads only %v", n.index+1, last, until == &n.ill.mute)
}

// recover ends all that is wrong with the Device but that it is slow, and has a process that works.
func (n *node) recover() {
	n.ill.reads, n.ill.writes, n.ill.stuck, n.ill.mute = 0, 0, 0, 0
	if n.up() && n.store.Health() != nil {
		n.kill(false, 0)
		if n.w.faulty {
			n.w.startLater(n, 2*time.Second)
		}
	}
	if n.w.faulty {
		return
	}
	if !n.up() {
		n.start()
	}
	n.ill.full = true // whatever it was told to give back may have ended with an earlier process
	n.empty()
}

// ballast is a Replica of another Volume, that fills Devices.
var ballast = ident.ReplicaKey{Shard: ident.ShardID{Volume: ident.UUID{0xba}}, Replica: 1}

// maxRoom bounds the Extents that a full Device still has for us.
const maxRoom = 2

func (n *node) makeBallast() {
	n.device.monitor.Enter()
	n.store.CreateReplica(ballast, deviceSize, func(_ store.Handle, err error) {
		if err != nil {
			n.w.failf("create ballast: %v", err)
		}
	})
	n.device.monitor.Leave()
	n.device.settle()
}

// given takes the outcome of an IO on the ballast, and its memory back.
type given struct{}

// IODone implements store.Completer.
func (given) IODone(io *store.IO) {
	if io.Buf != nil {
		io.Buf.Release()
	}
}

// fillSome takes the room of one Device or, as they fill up alike, of all.
func (w *world) fillSome(n *node) {
	all := w.chance(50)
	for _, o := range w.nodes {
		if all || o == n {
			w.fill(o)
		}
	}
}

// roomy reports whether there is room everywhere, and was since whatever is answered now began.
func (w *world) roomy() bool {
	for _, n := range w.nodes {
		if n.ill.full {
			return false
		}
	}
	return w.emptied == 0 || w.t-w.emptied > int64(10*time.Second)
}

// fill takes the room of a Device, but for a few Extents.
func (w *world) fill(n *node) {
	if n.dead || n.paused || n.ill.full {
		return
	}
	w.logf("the device of n%d gets full", n.index+1)
	n.ill.full = true
	n.device.monitor.Enter()
	defer n.device.monitor.Leave()
	handle, _ := n.store.Lookup(ballast)
	usage := n.store.Usage()
	room := (usage.Capacity-usage.Used)/layout.ExtentSize - w.r.Int64N(maxRoom)
	for i := range room {
		buf := w.pool.Get(ident.BlockSize)
		clear(buf.Bytes())
		n.store.Submit(&store.IO{
			Op: store.OpWrite, Replica: handle, Offset: i * layout.ExtentSize, Length: ident.BlockSize, Epoch: 1,
			Seq: ident.Seq(i + 1), Buf: buf, Done: given{},
		})
	}
	last := w.between(100*time.Millisecond, 6*time.Second)
	w.after(last, n.empty) // nobody is evicted for it
}

// empty gives the room back.
func (n *node) empty() {
	if !n.ill.full || !n.up() || n.paused {
		return
	}
	n.ill.full, n.w.emptied = false, n.w.t
	n.device.monitor.Enter()
	defer n.device.monitor.Leave()
	handle, _ := n.store.Lookup(ballast)
	n.store.Submit(&store.IO{
		Op: store.OpDiscard, Replica: handle, Length: deviceSize, Epoch: 1, Seq: ident.Seq(1 << 20), Done: given{},
	})
}
