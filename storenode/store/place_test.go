package store_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// expect reads n bytes and compares.
func (r *rig) expect(t *testing.T, h store.Handle, offset int64, want []byte, when string) {
	t.Helper()
	if got, err := r.read(h, offset, len(want)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes at %d are others, error %v", when, len(want), offset, err)
	}
}

func (r *rig) mustWrite(t *testing.T, h store.Handle, offset int64, data []byte) {
	t.Helper()
	if err := r.write(h, offset, data, 0); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) checkpoint(t *testing.T) {
	t.Helper()
	err := store.ErrFailed
	r.s.Checkpoint(func(e error) { err = e })
	r.drive()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadsSeeWhatTheJournalCarriesAmongWhatIsInItsPlace(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	want := fill(32*block, 100)
	r.mustWrite(t, h, 0, want)
	for _, at := range []int{0, 3, 4, 5, 17, 31} {
		data := fill(block, uint64(1000*at+7))
		copy(want[at*block:], data)
		r.mustWrite(t, h, int64(at)*block, data)
	}
	r.expect(t, h, 0, want, "carried")
	r.expect(t, h, 4*block, want[4*block:20*block], "carried, in part")
	r.checkpoint(t)
	r.expect(t, h, 0, want, "in its place")
}

// TestASmallOverwriteIsOldOrNewAfterLossOfPower is what a single disk of flash promises too: a Block that was flushed
// and is being overwritten when power is lost, is never torn.
func TestASmallOverwriteIsOldOrNewAfterLossOfPower(t *testing.T) {
	const blocks = 64
	for seed := range uint64(60) {
		chance := rand.New(rand.NewPCG(seed, 1))
		r := newRig(t, 64<<20)
		r.device.SetWhims(whims(seed))
		h := r.create(t, 0, blocks*block)
		r.mustWrite(t, h, 0, fill(blocks*block, 1000))
		if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
			t.Fatal(err)
		}
		buffers := make([]*told, 0, blocks)
		rounds := map[int64][]uint64{}
		for n := range uint64(chance.IntN(150)) {
			at := chance.Int64N(blocks)
			value := 5000 + 100*n
			rounds[at] = append(rounds[at], value)
			b := pool.Get(block)
			copy(b.Bytes(), fill(block, value))
			buffers = append(buffers, &told{})
			r.s.Submit(&store.IO{
				Op: store.OpWrite, Replica: h, Offset: at * block, Length: block, Buf: b, Done: buffers[len(buffers)-1],
			})
			for r.kick(); r.device.Pending() > 0 && buffers[len(buffers)-1].count == 0; r.kick() {
				r.device.Step(chance.IntN(r.device.Pending()))
			}
			b.Release()
		}
		r = &rig{device: r.device.Crash(chance, nil), boot: 1}
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		for at := range int64(blocks) {
			got, err := r.read(h, at*block, block)
			ok := bytes.Equal(got, fill(blocks*block, 1000)[at*block:(at+1)*block])
			for _, value := range rounds[at] {
				ok = ok || bytes.Equal(got, fill(block, value))
			}
			if err != nil || !ok {
				t.Fatalf("seed %d: block %d is neither old nor new, error %v", seed, at, err)
			}
		}
	}
}

func TestALargeWriteGoesBehindWhatTheJournalCarries(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	r.mustWrite(t, h, 0, fill(1<<20, 1))
	r.mustWrite(t, h, 5*block, fill(block, 77))
	want := fill(1<<20, 5_000_000)
	r.mustWrite(t, h, 0, want)
	r.expect(t, h, 0, want, "at once")
	r.checkpoint(t)
	r.expect(t, h, 0, want, "after a checkpoint")
	after := &rig{device: r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil)}
	if err := after.open(); err != nil {
		t.Fatal(err)
	}
	after.expect(t, h, 0, want, "after a crash")
}

// The SSD is slow with one write, which was meant for a place that was written, discarded and written again since.
func TestWhatIsOnItsWayToItsPlaceOvertakesNothingNewer(t *testing.T) {
	const blocks = 16 // more than the Journal carries
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	r.mustWrite(t, h, 0, fill(blocks*block, 1))
	super, _, err := store.ReadSuperblock(readerAt{r.device}, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	device := r.hold(t)
	device.from, device.to = super.ExtentStart(0), super.Size
	r.mustWrite(t, h, 3*block, fill(block, 100))
	r.s.Checkpoint(func(error) {})
	r.drive()
	if device.held == nil {
		t.Fatal("the first overwrite is not on its way to its place")
	}
	r.mustWrite(t, h, 3*block, fill(block, 200))
	for _, op := range []store.Op{store.OpDiscard, store.OpFlush} {
		if err := r.do(&store.IO{Op: op, Replica: h, Length: blocks * block}); err != nil {
			t.Fatal(err)
		}
	}
	r.expect(t, h, 0, make([]byte, blocks*block), "discarded")
	want, done := fill(blocks*block, 300), &told{}
	b := pool.Get(blocks * block)
	defer b.Release()
	copy(b.Bytes(), want)
	r.s.Submit(&store.IO{Op: store.OpWrite, Replica: h, Length: blocks * block, Buf: b, Done: done})
	r.drive()
	device.release()
	r.drive()
	if done.count != 1 {
		t.Errorf("the last write ended %d times", done.count)
	}
	r.expect(t, h, 0, want, "written last")
	r = &rig{device: r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil)}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	r.expect(t, h, 0, want, "after a crash")
}

func TestWhatIsDiscardedOrDeletedIsNotPlacedLater(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 2<<20)
	r.mustWrite(t, h, 0, fill(4*block, 1))
	r.mustWrite(t, h, 0, fill(2*block, 50))
	if err := r.do(&store.IO{Op: store.OpDiscard, Replica: h, Offset: 0, Length: 2 * block}); err != nil {
		t.Fatal(err)
	}
	r.expect(t, h, 0, make([]byte, 2*block), "discarded")
	r.mustWrite(t, h, 0, fill(block, 60))
	r.mustWrite(t, h, 3*block, fill(block, 61))
	r.s.DeleteReplica(key(0), func(error) {})
	r.drive()
	if used := r.s.Usage().Used; used != 0 {
		t.Errorf("%d bytes are used by nobody", used)
	}
	other := r.create(t, 1, 2<<20)
	r.mustWrite(t, other, 0, fill(4*block, 900))
	r.checkpoint(t)
	r.expect(t, other, 0, fill(4*block, 900), "the next in that place")
}

// TestTheNewestCheckpointMayBeDamagedAfterARecovery: a recovery leaves a gap in the Journal, and falling back must not
// end there.
func TestTheNewestCheckpointMayBeDamagedAfterARecovery(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	r.mustWrite(t, h, 0, fill(block, 1))
	chance := rand.New(rand.NewPCG(1, 1))
	r = &rig{device: r.device.Kill(chance, nil)}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	for i := range int64(5) {
		if err := r.write(h, i*block, fill(block, uint64(1000*i+9)), ident.Seq(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	super, v := r.recovered(t)
	r = &rig{device: r.device.Kill(chance, nil)}
	r.device.Corrupt(super.CheckpointStart(v.Area)+layout.Unit+1, 1)
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	for i := range int64(5) {
		r.expect(t, h, i*block, fill(block, uint64(1000*i+9)), "fallen back")
	}
}

// selfSummed is a Block that ends with its own CRC32C, as those of many programs do: as a whole they all have one CRC.
func selfSummed(version uint64) []byte {
	b := make([]byte, block)
	binary.LittleEndian.PutUint64(b[2048:], version)
	sum := crc32.Checksum(b[:block-4], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b[block-4:], sum)
	return b
}

func TestRecoveryTellsBlocksOfOneCRCFromEachOther(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 1<<20)
	r.mustWrite(t, h, 0, selfSummed(1))
	r.mustWrite(t, h, 0, selfSummed(2))
	before := r.digest(h).Digest
	r = &rig{device: r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil)}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	r.expect(t, h, 0, selfSummed(2), "recovered")
	r.mustWrite(t, h, 0, selfSummed(3))
	if r.digest(h).Digest == before {
		t.Error("a Rebuild would not see that the Block differs")
	}
}
