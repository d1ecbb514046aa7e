package store_test

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/mem"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

func (r *rig) reopen(t *testing.T, boot uint64) {
	t.Helper()
	r.boot, r.s = boot, nil
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) handle(t *testing.T) store.Handle {
	t.Helper()
	h, ok := r.s.Lookup(key(0))
	if !ok {
		t.Fatal("the replica is gone")
	}
	return h
}

// TestFramesBehindAGapAreNeverReplayed: a loss of power leaves any of the Journal's unflushed frames, and what is
// written afterwards closes the gap before them. They are older than that, and speak of Extents others have by then.
func TestFramesBehindAGapAreNeverReplayed(t *testing.T) {
	const before, after, mib = 120, 90, int64(1 << 20)
	for seed := range uint64(20) {
		chance := rand.New(rand.NewPCG(seed, 17))
		r := newRig(t, 256<<20)
		r.device.SetWhims(whims(seed))
		h := r.create(t, 0, 240*mib)
		if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
			t.Fatal(err)
		}
		for i := range int64(before) { // each is a frame, and an Extent
			r.mustWrite(t, h, i*mib, fill(block, 1))
		}
		r.device = r.device.Crash(chance, nil)
		r.reopen(t, 1)
		h = r.handle(t)
		r.writeAll(t, h, before*mib, after, chance.IntN(4)) // a few frames
		r.device = r.device.Kill(chance, nil)
		r.reopen(t, 1)
		h = r.handle(t)
		for i := range int64(after) {
			got, err := r.read(h, (before+i)*mib, block)
			if err != nil || !bytes.Equal(got, fill(block, uint64(2+i))) {
				t.Fatalf("seed %d: write %d was flushed, and something older is there instead: %v", seed, i, err)
			}
		}
	}
}

// writeAll writes so many Blocks at once, an Extent apart, after some single ones, and flushes.
func (r *rig) writeAll(t *testing.T, h store.Handle, offset int64, writes, single int) {
	t.Helper()
	all, done := make([]store.IO, writes), &told{}
	for i := range all {
		b := pool.Get(block)
		defer b.Release()
		copy(b.Bytes(), fill(block, uint64(2+i)))
		all[i] = store.IO{
			Op: store.OpWrite, Replica: h, Offset: offset + int64(i)<<20, Length: block, Buf: b, Done: done, Epoch: 1,
		}
		r.s.Submit(&all[i])
		if i < single {
			r.drive()
		}
	}
	r.drive()
	if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil || done.count != writes {
		t.Fatalf("%d of %d writes ended: %v", done.count, writes, err)
	}
}

// recovered is what a recovery finds on the Device now, in the same run of the machine.
func (r *rig) recovered(t *testing.T) (layout.Superblock, *store.Recovered) {
	t.Helper()
	super, _, err := store.ReadSuperblock(readerAt{r.device}, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	v, err := store.Recover(readerAt{r.device}, &super, r.boot)
	if err != nil {
		t.Fatal(err)
	}
	return super, v
}

// unreadable is a Device of which a range cannot be read until it is written.
type unreadable struct {
	*mem.Device
	from, to int64
	failed   []*engine.Request
}

func (u *unreadable) Submit(r *engine.Request) {
	hit := r.Offset < u.to && r.Offset+int64(len(r.Buf)) > u.from
	switch {
	case hit && r.Op == engine.OpRead:
		u.failed = append(u.failed, r)
		return
	case hit && r.Op == engine.OpWrite:
		u.from, u.to = 0, 0
	}
	u.Device.Submit(r)
}

func (u *unreadable) Kick() {
	u.Device.Kick()
	failed := u.failed
	u.failed = nil
	for _, r := range failed {
		r.Err = errors.New("unrecovered read error")
		r.Done.Complete(r)
	}
}

// TestADeviceIsOpenedThoughSomeOfItCannotBeRead: what is there twice is taken from the other place, what nobody needs
// is passed over, and a Block that is lost is lost alone.
func TestADeviceIsOpenedThoughSomeOfItCannotBeRead(t *testing.T) {
	const kept, torn = 0, 8 * block
	type device struct {
		*layout.Superblock
		*store.Recovered
	}
	extent := func(d device) int64 { return d.ExtentStart(d.Table.Find(0, 0)) }
	for name, c := range map[string]struct {
		at   func(device) int64
		lost bool
	}{
		"a superblock":      {at: func(device) int64 { return layout.SuperblockCopies()[0] }},
		"other superblock":  {at: func(device) int64 { return layout.SuperblockCopies()[1] }},
		"newest checkpoint": {at: func(d device) int64 { return d.CheckpointStart(d.Area) }},
		"other checkpoint":  {at: func(d device) int64 { return d.CheckpointStart(1 - d.Area) }},
		"next frame of the journal": {at: func(d device) int64 {
			return d.JournalStart() + int64(d.NextFrame%d.Frames())*block
		}},
		"end of the journal": {at: func(d device) int64 {
			return d.JournalStart() + int64((d.NextFrame+1)%d.Frames())*block
		}},
		"a slot not in force": {at: func(d device) int64 {
			x := d.Table.Find(0, 0)
			return d.SlotStart(x, int(layout.CopySecond-d.Checkpoint.Copies[x]))
		}},
		"a block without doubt": {at: func(d device) int64 { return extent(d) + 16*block }},
		"a carried block":       {at: func(d device) int64 { return extent(d) + kept }},
		"a doubtful block":      {at: func(d device) int64 { return extent(d) + torn }, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 64<<20)
			h := r.create(t, 0, 4<<20)
			r.mustWrite(t, h, kept, fill(block, 1))
			r.mustWrite(t, h, 16*block, fill(block, 2))
			r.checkpoint(t)
			r.mustWrite(t, h, kept, fill(block, 3)) // the Journal carries it
			r.mustWrite(t, h, torn, fill(block, 4)) // nobody knows whether it arrived
			super, v := r.recovered(t)
			bad := &unreadable{Device: r.device}
			bad.from = c.at(device{&super, v})
			bad.to = bad.from + block
			var err error
			if r.s, err = store.Open(bad, r.options()); err != nil {
				t.Fatal(err)
			}
			h = r.handle(t)
			got, err := r.read(h, kept, block)
			if err != nil || !bytes.Equal(got, fill(block, 3)) {
				t.Errorf("the carried block: %v", err)
			}
			got, err = r.read(h, torn, block)
			if c.lost != (err != nil) || !c.lost && !bytes.Equal(got, fill(block, 4)) {
				t.Errorf("the block written last: %v", err)
			}
			r.mustWrite(t, h, torn, fill(block, 5))
			if got, err = r.read(h, torn, block); err != nil || !bytes.Equal(got, fill(block, 5)) {
				t.Errorf("the block written anew: %v", err)
			}
		})
	}
}

// TestBlocksAreReadThoughOneBetweenThemThatWasNeverWrittenCannotBe: a loss of power leaves its place so, if its record
// was lost.
func TestBlocksAreReadThoughOneBetweenThemThatWasNeverWrittenCannotBe(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	r.mustWrite(t, h, 0, fill(2*block, 1))
	r.mustWrite(t, h, 3*block, fill(block, 4))
	r.checkpoint(t)
	super, v := r.recovered(t)
	bad := &unreadable{Device: r.device}
	var err error
	if r.s, err = store.Open(bad, r.options()); err != nil {
		t.Fatal(err)
	}
	extent := super.ExtentStart(v.Table.Find(0, 0))
	bad.from, bad.to = extent+2*block, extent+3*block
	want := slices.Concat(fill(2*block, 1), make([]byte, block), fill(block, 4))
	if got, err := r.read(r.handle(t), 0, 4*block); err != nil || !bytes.Equal(got, want) {
		t.Errorf("with a block that was never written: %v", err)
	}
	bad.from, bad.to = extent+block, extent+2*block
	if _, err := r.read(r.handle(t), 0, 4*block); err == nil {
		t.Error("a block that was written cannot be read, and the read ends well")
	}
}

// TestADeviceOfWhichASuperblockCannotBeReadIsNotEmpty, so nobody may format it.
func TestADeviceOfWhichASuperblockCannotBeReadIsNotEmpty(t *testing.T) {
	for i, at := range layout.SuperblockCopies() {
		_, _, err := store.ReadSuperblock(empty{unreadable: at}, 64<<20)
		if err == nil || errors.Is(err, layout.ErrCorruptSuperblock) || errors.Is(err, layout.ErrNotOurs) {
			t.Errorf("copy %d cannot be read: %v", i, err)
		}
	}
}

// empty is a Device of zeros of which a unit cannot be read.
type empty struct{ unreadable int64 }

func (e empty) ReadAt(b []byte, offset int64) (int, error) {
	if offset == e.unreadable {
		return 0, errors.New("unrecovered read error")
	}
	clear(b)
	return len(b), nil
}

// TestWhatIsOursIsKnownThoughSomeOfItCannotBeRead, also of what is only looked at to know foreign data.
func TestWhatIsOursIsKnownThoughSomeOfItCannotBeRead(t *testing.T) {
	const size = 64 << 20
	r := newRig(t, size)
	copies := layout.SuperblockCopies()
	for _, at := range []int64{copies[0], copies[1], 100 * block, size - block} {
		var super layout.Superblock
		content, what, err := layout.Probe(damaged{r.device, at}, size, &super)
		if content != layout.Ours || err != nil {
			t.Errorf("%d cannot be read: content %d %s, %v", at, content, what, err)
		}
		if content, _, err := layout.Probe(damaged{mem.New(mem.Options{Size: size}), at}, size, &super); err == nil {
			t.Errorf("an empty device that cannot be read at %d: content %d", at, content)
		}
	}
}

// TestACheckpointThatCannotBeReadMayBeTheNewest, which people are told.
func TestACheckpointThatCannotBeReadMayBeTheNewest(t *testing.T) {
	r := newRig(t, 64<<20)
	r.checkpoint(t)
	super, v := r.recovered(t)
	if v.Fallback {
		t.Error("both can be read")
	}
	for area := range 2 {
		at := super.CheckpointStart(area)
		if v, err := store.Recover(damaged{r.device, at}, &super, 0); err != nil || !v.Fallback || v.Area == area {
			t.Errorf("area %d cannot be read: %v", area, err)
		}
		var log bytes.Buffer
		o := r.options()
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		bad := &unreadable{Device: r.device, from: at, to: at + block}
		if _, err := store.Open(bad, o); err != nil || !strings.Contains(log.String(), "older checkpoint") {
			t.Errorf("area %d cannot be read: %v, and the log says %s", area, err, &log)
		}
	}
}

// damaged cannot read a unit.
type damaged struct {
	*mem.Device
	at int64
}

func (d damaged) ReadAt(b []byte, offset int64) (int, error) {
	if offset <= d.at && d.at < offset+int64(len(b)) {
		return 0, errors.New("unrecovered read error")
	}
	d.Peek(b, offset)
	return len(b), nil
}
