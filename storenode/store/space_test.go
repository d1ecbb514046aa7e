package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/mem"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// hoarding keeps discards until they are let go.
type hoarding struct {
	*mem.Device
	keeps bool
	kept  []*engine.Request
}

func (d *hoarding) Submit(r *engine.Request) {
	if d.keeps && r.Op == engine.OpDiscard {
		d.kept = append(d.kept, r)
		return
	}
	d.Device.Submit(r)
}

func (d *hoarding) release() {
	kept := d.kept
	d.keeps, d.kept = false, nil
	for _, r := range kept {
		d.Device.Submit(r)
	}
}

// fillUp opens the Store anew on a Device, promises more than there is, and writes a Block of each Extent there is.
func (r *rig) fillUp(t *testing.T, device engine.Device) (h store.Handle, extents int64) {
	t.Helper()
	o := r.options()
	o.Overcommit = 10
	var err error
	if r.s, err = store.Open(device, o); err != nil {
		t.Fatal(err)
	}
	h, extents = r.create(t, 0, 256<<20), r.s.Usage().Capacity/layout.ExtentSize
	for i := range extents {
		r.mustWrite(t, h, i*layout.ExtentSize, fill(block, 1))
	}
	return h, extents
}

// begin submits a write or discard and does not wait.
func (r *rig) begin(t *testing.T, op store.Op, h store.Handle, offset int64, length int, done *told) *store.IO {
	t.Helper()
	io := &store.IO{Op: op, Replica: h, Offset: offset, Length: length, Epoch: 1, Done: done}
	if op == store.OpWrite {
		io.Buf = pool.Get(length)
		t.Cleanup(io.Buf.Release)
	}
	r.s.Submit(io)
	return io
}

// TestAWriteWaitsForSpaceThatIsComingFree: a Backup gets writes while it still has to do what made the Primary's room
// for them, in whatever order the Device serves it.
func TestAWriteWaitsForSpaceThatIsComingFree(t *testing.T) {
	for seed := range uint64(50) {
		chance := rand.New(rand.NewPCG(seed, 0))
		r := newRig(t, 64<<20)
		h, extents := r.fillUp(t, r.device)
		done := &told{}
		// One of them is on its way to its place while it is discarded.
		all := []*store.IO{r.begin(t, store.OpWrite, h, 0, block, done)}
		r.s.Checkpoint(func(error) {})
		for n := chance.IntN(8); done.count == 0 || n > 0; n-- {
			if r.kick(); r.device.Pending() > 0 {
				r.device.Step(chance.IntN(r.device.Pending()))
			}
		}
		all = append(all,
			r.begin(t, store.OpDiscard, h, 0, 2*layout.ExtentSize, done),
			r.begin(t, store.OpWrite, h, extents*layout.ExtentSize+layout.ExtentSize/2, layout.ExtentSize, done),
			r.begin(t, store.OpWrite, h, 3*layout.ExtentSize, block, done))
		for r.kick(); r.device.Pending() > 0; r.kick() {
			r.device.Step(chance.IntN(r.device.Pending()))
		}
		if done.count != len(all) {
			t.Fatalf("seed %d: %d of %d ended", seed, done.count, len(all))
		}
		for i, io := range all {
			if io.Err != nil {
				t.Errorf("seed %d: change %d: %v", seed, i, io.Err)
			}
		}
	}
}

// TestWhoWaitsForSpaceKeepsNobodyElse, and is served before whoever comes later.
func TestWhoWaitsForSpaceKeepsNobodyElse(t *testing.T) {
	r := newRig(t, 64<<20)
	device := &hoarding{Device: r.device}
	h, extents := r.fillUp(t, device)
	device.keeps = true
	if err := r.do(&store.IO{Op: store.OpDiscard, Replica: h, Length: layout.ExtentSize, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	first, second, other := &told{}, &told{}, &told{}
	one := r.begin(t, store.OpWrite, h, extents*layout.ExtentSize, block, first)
	two := r.begin(t, store.OpWrite, h, (extents+1)*layout.ExtentSize, block, second)
	overwrite := r.begin(t, store.OpWrite, h, layout.ExtentSize, block, other)
	r.drive()
	if first.count+second.count != 0 || other.count != 1 || overwrite.Err != nil {
		t.Fatalf("%d and %d that need space ended, %d that needs none: %v", first.count, second.count, other.count,
			overwrite.Err)
	}
	device.release()
	r.drive()
	if first.count != 1 || one.Err != nil {
		t.Errorf("the first: %d, %v", first.count, one.Err)
	}
	if second.count != 1 || !errors.Is(two.Err, store.ErrNoSpace) {
		t.Errorf("the second: %d, %v", second.count, two.Err)
	}
}

// TestAFullDeviceSaysSoWhateverElseIsOnItsWay: there is always something that might free an Extent, and never does.
func TestAFullDeviceSaysSoWhateverElseIsOnItsWay(t *testing.T) {
	r := newRig(t, 64<<20)
	h, extents := r.fillUp(t, r.device)
	chance := rand.New(rand.NewPCG(1, 1))
	var lanes [12]told
	begun, done := [len(lanes)]int{}, &told{}
	goOn := func() {
		for i := range lanes {
			if lanes[i].count < begun[i] {
				continue
			}
			op, offset := store.OpWrite, int64(i)*layout.ExtentSize
			if begun[i]++; begun[i]%2 == 0 {
				op, offset = store.OpDiscard, offset+8*block // where nothing is
			}
			r.begin(t, op, h, offset, block, &lanes[i])
		}
		if r.kick(); r.device.Pending() > 0 {
			r.device.Step(chance.IntN(r.device.Pending()))
		}
	}
	for range 100 {
		goOn()
	}
	io := r.begin(t, store.OpWrite, h, extents*layout.ExtentSize, block, done)
	for n := 0; done.count == 0; n++ {
		if goOn(); n == 2000 {
			t.Fatal("a write waits for ever")
		}
	}
	if !errors.Is(io.Err, store.ErrNoSpace) {
		t.Errorf("it ended with %v", io.Err)
	}
	r.drive()
}

// TestWhoWaitsForSpaceEndsWhenTheDeviceFails, as none comes free any more.
func TestWhoWaitsForSpaceEndsWhenTheDeviceFails(t *testing.T) {
	r := newRig(t, 64<<20)
	device := &breaking{Device: r.device, flushes: true}
	h, extents := r.fillUp(t, device)
	done := &told{}
	discard := r.begin(t, store.OpDiscard, h, 0, layout.ExtentSize, done)
	device.armed = true
	write := r.begin(t, store.OpWrite, h, extents*layout.ExtentSize, block, done)
	r.drive()
	r.drive() // the failure is told by the first
	if device.armed || done.count != 2 || discard.Err != nil || !errors.Is(write.Err, store.ErrFailed) {
		t.Errorf("%d ended: %v, %v; fault waits: %v", done.count, discard.Err, write.Err, device.armed)
	}
}

// TestSpaceOfADeletedReplicaIsWaitedFor, all of it.
func TestSpaceOfADeletedReplicaIsWaitedFor(t *testing.T) {
	r := newRig(t, 64<<20)
	h, extents := r.fillUp(t, r.device)
	other := r.create(t, 1, 256<<20)
	if h == other {
		t.Fatal("one handle for two")
	}
	r.s.DeleteReplica(key(0), func(error) {})
	done := &told{}
	all := make([]*store.IO, extents)
	for i := range all {
		all[i] = r.begin(t, store.OpWrite, other, int64(i)*layout.ExtentSize, block, done)
		all[i].Seq = ident.Seq(i + 1)
	}
	r.drive()
	for i, io := range all {
		if io.Err != nil {
			t.Errorf("write %d of %d: %v", i, extents, io.Err)
		}
	}
	if done.count != len(all) {
		t.Errorf("%d ended", done.count)
	}
}

// counting counts what reaches a Device.
type counting struct {
	*mem.Device
	flushes, discards, most int
	// told are the discarded offsets.
	told map[int64]int
}

func (d *counting) Submit(r *engine.Request) {
	d.Device.Submit(r)
	switch r.Op {
	case engine.OpFlush:
		d.flushes++
	case engine.OpDiscard:
		d.discards++
		if d.told != nil {
			d.told[r.Offset]++
		}
	case engine.OpRead, engine.OpWrite:
	}
	d.most = max(d.most, d.Pending())
}

// TestADeletedReplicaCostsFewFlushes, and few discards at a time.
func TestADeletedReplicaCostsFewFlushes(t *testing.T) {
	const extents = 500
	r := newRig(t, 1<<30)
	device := &counting{Device: r.device}
	var err error
	if r.s, err = store.Open(device, r.options()); err != nil {
		t.Fatal(err)
	}
	h := r.create(t, 0, extents*layout.ExtentSize)
	for i := range int64(extents) {
		r.mustWrite(t, h, i*layout.ExtentSize, fill(block, 1))
	}
	device.flushes, device.most = 0, 0
	r.s.DeleteReplica(key(0), func(error) {})
	r.drive()
	if device.discards != extents || device.flushes > 3 || device.most > 6 {
		t.Errorf("%d flushes, %d discards of %d, up to %d in flight", device.flushes, device.discards, extents, device.most)
	}
	if used := r.s.Usage().Used; used != 0 {
		t.Errorf("%d bytes are still in use", used)
	}
}

// TestWhatAnEarlierProcessHasLeftIsDiscardedInTheEnd, a little at a time, and nothing else.
func TestWhatAnEarlierProcessHasLeftIsDiscardedInTheEnd(t *testing.T) {
	const extents = 100
	r := newRig(t, 256<<20)
	h := r.create(t, 0, extents*layout.ExtentSize)
	for i := range int64(extents) {
		r.mustWrite(t, h, i*layout.ExtentSize, fill(block, 1))
	}
	hoard := &hoarding{Device: r.device, keeps: true}
	var err error
	if r.s, err = store.Open(hoard, r.options()); err != nil {
		t.Fatal(err)
	}
	if err := r.do(&store.IO{Op: store.OpDiscard, Replica: h, Length: 4 << 20, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	r.checkpoint(t)
	if len(hoard.kept) != 4 {
		t.Fatalf("%d discards are on their way", len(hoard.kept))
	}
	after := &rig{device: r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil)}
	device := &counting{Device: after.device, told: map[int64]int{}}
	if after.s, err = store.Open(device, after.options()); err != nil {
		t.Fatal(err)
	}
	after.drive()
	if device.discards != 0 {
		t.Errorf("%d discards with Open", device.discards)
	}
	h = after.handle(t)
	for range 3 {
		after.mustWrite(t, h, 50*layout.ExtentSize, fill(block, 2))
		after.s.Rest()
		if after.drive(); device.discards != 0 {
			t.Errorf("%d discards between writes", device.discards)
		}
	}
	for last := -1; last != device.discards; {
		last, device.most = device.discards, 0
		after.s.Rest()
		after.drive()
		if n := device.discards - last; n > 16 || device.most > 5 {
			t.Fatalf("%d discards at once, %d requests in flight", n, device.most)
		}
	}
	for _, kept := range hoard.kept {
		if device.told[kept.Offset] != 1 {
			t.Errorf("extent at %d was discarded %d times", kept.Offset, device.told[kept.Offset])
		}
	}
	usage := after.s.Usage()
	free := (usage.Capacity - usage.Used) / layout.ExtentSize
	if usage.Used != (extents-4)*layout.ExtentSize || int64(len(device.told)) != free || int64(device.discards) != free {
		t.Errorf("%d discards of %d extents, %d are free, %d bytes in use", device.discards, len(device.told), free,
			usage.Used)
	}
}

// scribbling leaves garbage where something is discarded, when the discard lands.
type scribbling struct{ *mem.Device }

var garbage = bytes.Repeat([]byte{0xdb}, layout.ExtentSize)

func (d scribbling) Submit(r *engine.Request) {
	if r.Op == engine.OpDiscard {
		r = &engine.Request{Op: engine.OpWrite, Offset: r.Offset, Buf: garbage[:r.Length], Done: scribbled{r}}
	}
	d.Device.Submit(r)
}

type scribbled struct{ of *engine.Request }

func (s scribbled) Complete(r *engine.Request) {
	s.of.Err = r.Err
	s.of.Done.Complete(s.of)
}

// refusing takes no discards, and says so to each.
type refusing struct {
	*mem.Device
	err   error
	asked int
}

func (d *refusing) Submit(r *engine.Request) {
	if r.Op == engine.OpDiscard {
		d.asked++
		r = &engine.Request{Op: engine.OpRead, Buf: make([]byte, block), Done: refused{r, d.err}}
	}
	d.Device.Submit(r)
}

type refused struct {
	of  *engine.Request
	err error
}

func (s refused) Complete(*engine.Request) {
	s.of.Err = s.err
	s.of.Done.Complete(s.of)
}

// TestADeviceThatKnowsNoDiscardsIsNotAskedAgain, and gives its space back all the same. The log says it once.
func TestADeviceThatKnowsNoDiscardsIsNotAskedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		asked int
	}{
		"unknown":   {fmt.Errorf("discard: %w", syscall.EOPNOTSUPP), 4}, // those in flight when the first is refused
		"a failure": {fmt.Errorf("discard: %w", syscall.EIO), 20},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 64<<20)
			device := &refusing{Device: r.device, err: c.err}
			var text bytes.Buffer
			o := r.options()
			o.Overcommit, o.Log = 10, slog.New(slog.NewTextHandler(&text, nil))
			var err error
			if r.s, err = store.Open(device, o); err != nil {
				t.Fatal(err)
			}
			h := r.create(t, 0, 256<<20)
			extents := r.s.Usage().Capacity / layout.ExtentSize
			for i := range extents {
				r.mustWrite(t, h, i*layout.ExtentSize, fill(block, 1))
			}
			done := &told{}
			for at := range int64(5) {
				r.begin(t, store.OpDiscard, h, at*4<<20, 4<<20, done)
			}
			for i := range int64(20) {
				if io := r.begin(t, store.OpWrite, h, (extents+i)*layout.ExtentSize, block, done); io.Err != nil {
					t.Error(io.Err)
				}
			}
			r.drive()
			if done.count != 25 || device.asked != c.asked {
				t.Errorf("%d of 25 ended, %d discards", done.count, device.asked)
			}
			if n := strings.Count(text.String(), "no discards"); n != 1 {
				t.Errorf("said %d times: %s", n, text.String())
			}
		})
	}
}
