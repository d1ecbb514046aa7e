package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/mem"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

const block = ident.BlockSize

var pool = buffer.New(64 << 20)

// rig is a Store over a memory Device that moves only when it is driven.
type rig struct {
	device *mem.Device
	s      *store.Store
	boot   uint64
	// scribbles: what is discarded holds garbage afterwards.
	scribbles bool
	// mortal: the process ends, by a panic, when the Device has done so many more steps in Open or Close.
	mortal bool
	left   int
}

// endOfProcess is what a mortal rig panics with.
type endOfProcess struct{}

func (r *rig) Enter() {}
func (r *rig) Leave() { r.kick() }
func (r *rig) kick() {
	if r.s != nil {
		r.s.Kick()
	}
}

// drive runs until nothing is on its way.
func (r *rig) drive() {
	for r.kick(); r.device.Pending() > 0; r.kick() {
		if r.left--; r.mortal && r.left < 0 {
			panic(endOfProcess{})
		}
		r.device.Step(0)
	}
}

func (r *rig) options() store.Options {
	return store.Options{
		Boot: r.boot, Owner: r, Settle: r.drive, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Overcommit: 1,
		Memory: loose{},
	}
}

// loose is memory that nobody gives back, so that a Device has it after the end of the process.
type loose struct{}

func (loose) Map(n int) ([]byte, error) { return make([]byte, n), nil }
func (loose) Unmap([]byte)              {}

// dies ends the process that uses r, or with it the power, and leaves what there is then.
func (r *rig) dies(power bool, chance *rand.Rand) *rig {
	if power {
		return &rig{boot: r.boot + 1, scribbles: r.scribbles, device: r.device.Crash(chance, nil)}
	}
	return &rig{boot: r.boot, scribbles: r.scribbles, device: r.device.Kill(chance, nil)}
}

func (r *rig) open() error {
	var device engine.Device = r.device
	if r.scribbles {
		device = scribbling{r.device}
	}
	s, err := store.Open(device, r.options())
	r.s = s
	return err
}

func newRig(tb testing.TB, size int64) *rig {
	tb.Helper()
	r := &rig{device: mem.New(mem.Options{Size: size})}
	super := layout.Superblock{UUID: ident.UUID{1}, Pool: "p", Salt: 42}
	if err := store.Format(r.device, r.options(), super); err != nil {
		tb.Fatal(err)
	}
	if err := r.open(); err != nil {
		tb.Fatal(err)
	}
	return r
}

func key(n int) ident.ReplicaKey {
	return ident.ReplicaKey{Shard: ident.ShardID{Volume: ident.UUID{9}, Index: uint32(n)}, Replica: 1}
}

func (r *rig) create(tb testing.TB, n int, size int64) store.Handle {
	tb.Helper()
	var handle store.Handle
	err := errors.New("never told")
	r.s.CreateReplica(key(n), size, func(h store.Handle, e error) { handle, err = h, e })
	r.drive()
	if err != nil {
		tb.Fatal(err)
	}
	return handle
}

type told struct{ count int }

func (t *told) IODone(*store.IO) { t.count++ }

// do runs one IO to its end.
func (r *rig) do(request *store.IO) error {
	t := &told{}
	request.Done = t
	r.s.Submit(request)
	r.drive()
	r.drive() // what failed may only be told by the first
	if t.count != 1 {
		return fmt.Errorf("completed %d times", t.count)
	}
	return request.Err
}

func (r *rig) write(h store.Handle, offset int64, data []byte, seq ident.Seq) error {
	b := pool.Get(len(data))
	defer b.Release()
	copy(b.Bytes(), data)
	return r.do(&store.IO{Op: store.OpWrite, Replica: h, Offset: offset, Length: len(data), Buf: b, Seq: seq, Epoch: 1})
}

func (r *rig) read(h store.Handle, offset int64, length int) ([]byte, error) {
	b := pool.Get(length)
	defer b.Release()
	err := r.do(&store.IO{Op: store.OpRead, Replica: h, Offset: offset, Length: length, Buf: b})
	return bytes.Clone(b.Bytes()), err
}

func fill(n int, value uint64) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], value+uint64(i/block))
	}
	return b
}

func TestWhatIsWrittenIsReadBackAlsoAcrossExtents(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 16<<20)
	data := fill(1<<20, 7)
	const at = 1<<20 - 3*block
	if err := r.write(h, at, data, 1); err != nil {
		t.Fatal(err)
	}
	got, err := r.read(h, at, len(data))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read other bytes than were written: %v", err)
	}
	before, err := r.read(h, at-2*block, 2*block)
	if err != nil || !bytes.Equal(before, make([]byte, 2*block)) {
		t.Errorf("never-written blocks are not zeros: %v", err)
	}
}

func TestImpossibleRequestsAreRefusedByName(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	b := pool.Get(1 << 20)
	for _, request := range []store.IO{
		{Op: store.OpRead, Replica: h, Offset: 4 << 20, Length: block},
		{Op: store.OpRead, Replica: h, Offset: -block, Length: block},
		{Op: store.OpWrite, Replica: h, Offset: 100, Length: block},
		{Op: store.OpWrite, Replica: h, Length: 0},
		{Op: store.OpDiscard, Replica: h, Length: 8 << 20},
		{Op: 99, Replica: h, Length: block},
	} {
		request.Buf = b
		if err := r.do(&request); !errors.Is(err, store.ErrBounds) {
			t.Errorf("%+v: %v", request, err)
		}
	}
	unknown := store.IO{Op: store.OpRead, Replica: 77, Length: block, Buf: b}
	if err := r.do(&unknown); !errors.Is(err, store.ErrUnknownReplica) {
		t.Errorf("unknown replica: %v", err)
	}
}

func TestSpaceIsPromisedOnceAndGivenBack(t *testing.T) {
	r := newRig(t, 128<<20)
	capacity := r.s.Usage().Capacity
	r.create(t, 0, capacity-8<<20)
	var err error
	for _, size := range []int64{16 << 20, math.MaxInt64 - block + 1} {
		r.s.CreateReplica(key(1), size, func(_ store.Handle, e error) { err = e })
		r.drive()
		if !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("promised %d bytes, more than there is: %v", size, err)
		}
	}
	r.s.DeleteReplica(key(0), func(e error) { err = e })
	r.drive()
	if err != nil || r.s.Usage().Reserved != 0 {
		t.Errorf("after deletion %+v, %v", r.s.Usage(), err)
	}
	r.create(t, 1, 16<<20)
}

func TestAFullDeviceFailsOnlyTheWriteThatNeedsSpace(t *testing.T) {
	r := newRig(t, 64<<20)
	o := r.options()
	o.Overcommit = 10
	var err error
	if r.s, err = store.Open(r.device, o); err != nil {
		t.Fatal(err)
	}
	h := r.create(t, 0, 256<<20)
	extents := r.s.Usage().Capacity / layout.ExtentSize
	for i := range extents {
		if err := r.write(h, i*layout.ExtentSize, fill(block, 1), ident.Seq(i+1)); err != nil {
			t.Fatalf("extent %d of %d: %v", i, extents, err)
		}
	}
	if err := r.write(h, extents*layout.ExtentSize, fill(block, 1), 1000); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("a write into a full device: %v", err)
	}
	if err := r.write(h, 0, fill(block, 2), 1001); err != nil {
		t.Errorf("an overwrite on a full device: %v", err)
	}
	discard := store.IO{Op: store.OpDiscard, Replica: h, Length: layout.ExtentSize, Seq: 1002, Epoch: 1}
	if err := r.do(&discard); err != nil {
		t.Errorf("a discard on a full device: %v", err)
	}
	if err := r.write(h, extents*layout.ExtentSize, fill(block, 3), 1003); err != nil {
		t.Errorf("a write after space was given back: %v", err)
	}
}

func TestDiscardedAndReusedSpaceReadsAsZeros(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 8<<20)
	if err := r.write(h, 0, fill(layout.ExtentSize, 5), 1); err != nil {
		t.Fatal(err)
	}
	zeroes := store.IO{Op: store.OpWriteZeroes, Replica: h, Offset: block, Length: block, Seq: 2, Epoch: 1}
	if err := r.do(&zeroes); err != nil {
		t.Fatal(err)
	}
	got, err := r.read(h, 0, 3*block)
	zeros := make([]byte, block)
	if err != nil || !bytes.Equal(got[block:2*block], zeros) || bytes.Equal(got[:block], zeros) {
		t.Errorf("a zeroed block beside written ones: %v", err)
	}
	r.s.DeleteReplica(key(0), func(error) {})
	r.drive()
	// The next tenant gets the same Extents, whose old bytes the Device still has.
	other := r.create(t, 1, 60<<20/2)
	for i := range int64(30) {
		if err := r.write(other, i*layout.ExtentSize, fill(block, 8), ident.Seq(i+1)); err != nil {
			t.Fatal(err)
		}
		got, err := r.read(other, i*layout.ExtentSize+block, layout.ExtentSize-block)
		if err != nil || len(bytes.Trim(got, "\x00")) > 0 {
			t.Fatalf("extent %d shows another tenant's bytes: %v", i, err)
		}
	}
}

func TestRottenDataIsNeverServed(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	if err := r.write(h, 0, fill(2*block, 5), 1); err != nil {
		t.Fatal(err)
	}
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	var super layout.Superblock
	if _, _, err := layout.Probe(readerAt{r.device}, 64<<20, &super); err != nil {
		t.Fatal(err)
	}
	after := r.device.Crash(rand.New(rand.NewPCG(1, 1)), nil)
	for x := range super.Extents {
		after.Corrupt(super.ExtentStart(x)+100, 3) // whichever it is in
	}
	r = &rig{device: after}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.read(h, 0, block); !errors.Is(err, store.ErrCorruption) {
		t.Errorf("a rotten block was read: %v", err)
	}
	if got, err := r.read(h, block, block); err != nil || !bytes.Equal(got, fill(2*block, 5)[block:]) {
		t.Errorf("its neighbour suffers: %v", err)
	}
}

func TestADeviceWithAnythingOnItIsNotFormatted(t *testing.T) {
	r := newRig(t, 64<<20)
	again := store.Format(r.device, r.options(), layout.Superblock{})
	foreign := &rig{device: mem.New(mem.Options{Size: 64 << 20})}
	foreign.device.Corrupt(1080, 1) // one byte anywhere
	other := store.Format(foreign.device, foreign.options(), layout.Superblock{})
	if !errors.Is(again, store.ErrNotEmpty) || !errors.Is(other, store.ErrNotEmpty) {
		t.Errorf("formatted ours: %v; formatted foreign: %v", again, other)
	}
}

func TestEitherSuperblockCopyIsEnoughAndNoneIsRefused(t *testing.T) {
	r := newRig(t, 64<<20)
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	chance := rand.New(rand.NewPCG(1, 1))
	for _, at := range layout.SuperblockCopies() {
		after := &rig{device: r.device.Crash(chance, nil)}
		after.device.Corrupt(at+20, 0)
		if err := after.open(); err != nil {
			t.Errorf("copy at %d damaged: %v", at, err)
		}
		repaired := after.device.Crash(chance, nil)
		if _, bad, err := store.ReadSuperblock(readerAt{repaired}, 64<<20); bad != -1 || err != nil {
			t.Errorf("copy at %d was not repaired: %d, %v", at, bad, err)
		}
	}
	both := &rig{device: r.device.Crash(chance, nil)}
	for _, at := range layout.SuperblockCopies() {
		both.device.Corrupt(at+20, 0)
	}
	if err := both.open(); !errors.Is(err, layout.ErrCorruptSuperblock) {
		t.Errorf("both copies damaged: %v", err)
	}
}

// TestADeviceThatSomebodyElseHasTakenIsNotOpened: opening would repair the copy that a filesystem has replaced, and
// write where that has its data.
func TestADeviceThatSomebodyElseHasTakenIsNotOpened(t *testing.T) {
	r := newRig(t, 64<<20)
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	after := &rig{device: r.device.Crash(rand.New(rand.NewPCG(1, 1)), nil)}
	for i, b := range []byte{0x53, 0xef} { // ext4, in the middle of what is zeros of the first copy
		for bit := range 8 {
			if b>>bit&1 == 1 {
				after.device.Corrupt(1080+int64(i), bit)
			}
		}
	}
	if err := after.open(); !errors.Is(err, layout.ErrNotOurs) {
		t.Errorf("opened: %v", err)
	}
	if _, bad, err := store.ReadSuperblock(readerAt{after.device}, 64<<20); bad != 0 || err != nil {
		t.Errorf("the first copy was written: %d, %v", bad, err)
	}
}

func TestADamagedNewestCheckpointFallsBackToTheOther(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	for i := range 5 {
		if err := r.write(h, int64(i)*block, fill(block, uint64(100*i)), ident.Seq(i+1)); err != nil {
			t.Fatal(err)
		}
		r.s.Checkpoint(func(error) {})
		r.drive()
	}
	super, v := r.recovered(t)
	after := &rig{device: r.device.Kill(rand.New(rand.NewPCG(1, 1)), nil)}
	after.device.Corrupt(super.CheckpointStart(v.Area)+layout.Unit+1, 1)
	if err := after.open(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		got, err := after.read(h, int64(i)*block, block)
		if err != nil || !bytes.Equal(got, fill(block, uint64(100*i))) {
			t.Errorf("block %d: %v", i, err)
		}
	}
}

func TestThinReplicasCostMemoryForWhatIsWrittenOnly(t *testing.T) {
	r := newRig(t, 4<<30)
	o := r.options()
	o.Overcommit = 1000
	var err error
	if r.s, err = store.Open(r.device, o); err != nil {
		t.Fatal(err)
	}
	for i := range 32 {
		h := r.create(t, i, 32<<30)
		if err := r.write(h, int64(i)<<29, fill(block, 1), 1); err != nil {
			t.Fatal(err)
		}
	}
	if used := r.s.Usage().Used; used != 32*layout.ExtentSize {
		t.Errorf("1 TiB of replicas with 32 blocks written uses %d bytes", used)
	}
}

// readerAt reads a memory Device directly.
type readerAt struct{ d *mem.Device }

func (r readerAt) ReadAt(b []byte, offset int64) (int, error) {
	r.d.Peek(b, offset)
	return len(b), nil
}
