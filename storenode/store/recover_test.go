package store_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// counted reads a memory Device, and counts what is read from a place on.
type counted struct {
	readerAt
	from         int64
	calls, bytes int
}

func (c *counted) ReadAt(b []byte, offset int64) (int, error) {
	if offset >= c.from {
		c.calls++
		c.bytes += len(b)
	}
	return c.readerAt.ReadAt(b, offset)
}

// TestRecoveryReadsSlotsTogetherAndOfDataWhatIsInDoubt: Devices have millions of Extents, and nobody serves what is on
// them before all is read.
func TestRecoveryReadsSlotsTogetherAndOfDataWhatIsInDoubt(t *testing.T) {
	const extents, between = 300, 10
	r := newRig(t, 400<<20)
	h := r.create(t, 0, extents<<20)
	for i := range int64(extents) {
		r.mustWrite(t, h, i<<20, fill(block, 1))
	}
	r.checkpoint(t)
	r.mustWrite(t, h, 0, fill(block, 2))
	r.mustWrite(t, h, between*block, fill(block, 3))
	super, _, err := store.ReadSuperblock(readerAt{r.device}, 400<<20)
	if err != nil {
		t.Fatal(err)
	}
	slots := &counted{readerAt: readerAt{r.device}, from: super.SlotStart(0, 0)}
	if _, err := store.Recover(slots, &super, 0); err != nil {
		t.Fatal(err)
	}
	data := &counted{readerAt: readerAt{r.device}, from: super.ExtentStart(0)}
	v, err := store.Recover(data, &super, 0)
	if err != nil || v.Verified != 2 || v.Table.Used() != extents {
		t.Fatalf("%d blocks in doubt, %d extents, %v", v.Verified, v.Table.Used(), err)
	}
	if calls := slots.calls - data.calls; calls > (extents*2*layout.Unit)>>20+1 {
		t.Errorf("the slots of %d extents took %d calls", extents, calls)
	}
	if want := (between + 1) * block; data.bytes != want {
		t.Errorf("read %d bytes of data, want %d", data.bytes, want)
	}
}

// forged reads a memory Device, and one unit of it as something else.
type forged struct {
	readerAt
	at   int64
	unit [block]byte
}

func (f *forged) ReadAt(b []byte, offset int64) (int, error) {
	n, err := f.readerAt.ReadAt(b, offset)
	if at := f.at - offset; at >= 0 && at < int64(len(b)) {
		copy(b[at:], f.unit[:])
	}
	return n, err
}

// TestARecordOfNoExtentOfTheDeviceIsRefused, also where its Replica is unknown, so that nothing is told of it again.
func TestARecordOfNoExtentOfTheDeviceIsRefused(t *testing.T) {
	r := newRig(t, 64<<20)
	super, v := r.recovered(t)
	f := &forged{readerAt: readerAt{r.device}, at: super.JournalStart() + int64(v.NextFrame%super.Frames())*block}
	record := journal.Append(nil, &journal.Record{
		Type: journal.Write, Replica: 5, Extent: super.Extents, Blocks: 1, CRCs: make([]byte, 4),
	})
	used := copy(journal.Room(f.unit[:]), record)
	journal.Seal(f.unit[:], super.Salt, v.NextFrame, journal.Marks{}, used)
	if _, err := store.Recover(f, &super, 0); !errors.Is(err, store.ErrCorruptDevice) {
		t.Errorf("recovery says %v", err)
	}
}

// What is known to have arrived needs no note, or the memory of a recovery would be gigabytes.
func TestRecoveryTakesMemoryForWhatIsInDoubtOnly(t *testing.T) {
	const most = 40 // bytes a Block
	recovery := func(mib int64) uint64 {
		r := newRig(t, 256<<20)
		h := r.create(t, 0, 64<<20)
		for i := range mib {
			r.mustWrite(t, h, i<<20, fill(1<<20, uint64(i)<<32|1))
		}
		r.flush(t, h)
		r.mustWrite(t, h, mib<<20, fill(block, 1)) // says that all before was flushed
		super, _, err := store.ReadSuperblock(readerAt{r.device}, 256<<20)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := store.Recover(readerAt{r.device}, &super, 1); err != nil { // power was lost
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	less, more := recovery(4), recovery(40)
	if blocks := uint64(36) << 20 / block; more-less > most*blocks {
		t.Errorf("%d bytes more for %d blocks more", more-less, blocks)
	}
}
