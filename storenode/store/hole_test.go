package store_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

func (r *rig) flush(t *testing.T, h store.Handle) {
	t.Helper()
	if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
		t.Fatal(err)
	}
}

// number is of the newest frame that speaks of data.
func (r *rig) number() uint64 {
	last, _ := r.s.Noted()
	return last
}

// rot spoils a unit of the Journal.
func (r *rig) rot(super *layout.Superblock, number uint64) {
	r.device.Corrupt(super.JournalStart()+int64(number%super.Frames())*journal.FrameSize+100, 1)
}

func (r *rig) super(t *testing.T) *layout.Superblock {
	t.Helper()
	s, _, err := store.ReadSuperblock(readerAt{r.device}, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

// What lies behind a frame that the Device has damaged was acknowledged, and durable. Ending there would serve what is
// older as if it were what was written last.
func TestADamagedFrameIsNotTakenForTheEndOfTheJournal(t *testing.T) {
	for name, boot := range map[string]uint64{"the process ended": 0, "power was lost": 1} {
		r := newRig(t, 64<<20)
		h := r.create(t, 0, 4<<20)
		r.mustWrite(t, h, 0, fill(block, 1))
		damaged := r.number()
		r.flush(t, h)
		r.mustWrite(t, h, block, fill(block, 2)) // says that the one before was durable
		super := r.super(t)
		r = &rig{device: r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil), boot: boot}
		r.rot(super, damaged)
		if err := r.open(); !errors.Is(err, store.ErrCorruptDevice) {
			t.Errorf("%s: opened, %v", name, err)
		}
	}
}

// Nothing was flushed: the last frame alone may be damaged by an end of the power, and then it never was.
func TestATornFrameIsTheEndOfTheJournal(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	r.mustWrite(t, h, 0, fill(block, 1))
	r.flush(t, h)
	r.mustWrite(t, h, block, fill(block, 2))
	torn := r.number()
	r.mustWrite(t, h, 2*block, fill(block, 3))
	super := r.super(t)
	device := r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil)
	r = &rig{device: device, boot: 1}
	r.rot(super, torn)
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	r.expect(t, r.handle(t), 0, fill(block, 1), "what was flushed")
}

func TestOfDamagedDataInTheJournalOnlyItsBlockIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		boot   uint64
		placed bool
	}{
		"the process ended":  {},
		"power was lost":     {boot: 1},
		"it is in its place": {placed: true},
		"and power was lost": {boot: 1, placed: true},
	} {
		r := newRig(t, 64<<20)
		h := r.create(t, 0, 4<<20)
		r.mustWrite(t, h, 0, fill(3*block, 1))
		r.flush(t, h)
		r.mustWrite(t, h, 0, fill(2*block, 100)) // carried
		damaged := r.number() + 1
		r.flush(t, h)
		r.mustWrite(t, h, 2*block, fill(block, 200)) // says that the one before was durable
		super := r.super(t)
		if c.placed {
			_, v := r.recovered(t)
			place := super.ExtentStart(v.Table.Find(0, 0))
			request := engine.Request{Op: engine.OpWrite, Offset: place, Buf: fill(block, 100), Done: nobody{}}
			r.device.Submit(&request)
			r.drive()
		}
		r = &rig{device: r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil), boot: c.boot}
		r.rot(super, damaged)
		if err := r.open(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h = r.handle(t)
		got, err := r.read(h, 0, block)
		whole, lost := err == nil && bytes.Equal(got, fill(block, 100)), errors.Is(err, store.ErrCorruption)
		if c.placed && !whole || !c.placed && !lost {
			t.Errorf("%s: the damaged block: %v", name, err)
		}
		r.expect(t, h, block, fill(2*block, 100)[block:], name+": beside it")
		r.expect(t, h, 2*block, fill(block, 200), name+": behind it")
		r.mustWrite(t, h, 0, fill(block, 300))
		r.expect(t, h, 0, fill(block, 300), name+": written anew")
	}
}

type nobody struct{}

func (nobody) Complete(*engine.Request) {}

// Nobody waits for a frame of Rest, and a flush that was on its way beside it says nothing of it.
func TestAFlushDoesNotSpeakOfAFrameOnItsWay(t *testing.T) {
	r := newRig(t, 64<<20)
	r.create(t, 0, 4<<20)
	device := r.hold(t)
	h := r.handle(t)
	r.mustWrite(t, h, 0, fill(block, 1))
	super := r.super(t)
	rest := r.number() + 1
	device.from, device.to = super.JournalStart(), super.JournalStart()+super.JournalSize
	for range 2 {
		r.s.Rest()
		r.drive()
	}
	if device.held == nil {
		t.Fatal("no frame says that the data has arrived")
	}
	r.flush(t, h)
	device.release()
	r.drive()
	r.mustWrite(t, h, block, fill(block, 2))
	if r.number() != rest+1 {
		t.Fatalf("frame %d was written last, not %d", r.number(), rest+1)
	}
	r = &rig{device: r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil), boot: 1}
	r.rot(super, rest)
	if err := r.open(); err != nil {
		t.Errorf("a frame that was not flushed is lost: %v", err)
	}
}

// The Journal has no second copy, and a quiet Device would have its last changes there alone for ever.
func TestALongRestEndsWithACheckpoint(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	r.mustWrite(t, h, 0, fill(block, 1))
	r.mustWrite(t, h, 0, fill(block, 2)) // the Journal carries it
	rest := func() (generation uint64, carried int) {
		for range 300 {
			r.s.Rest()
			r.drive()
		}
		_, v := r.recovered(t)
		return v.Checkpoint.Generation, len(v.Carried)
	}
	_, before := r.recovered(t)
	first, carried := rest()
	if first == before.Checkpoint.Generation || carried != 0 || len(before.Carried) != 1 {
		t.Errorf("%d blocks are in the journal alone, %d were", carried, len(before.Carried))
	}
	if again, _ := rest(); again != first {
		t.Error("another checkpoint, though nothing has changed")
	}
}
