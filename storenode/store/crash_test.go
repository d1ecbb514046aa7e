package store_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// model is a Replica as a dumb map: what each Block may hold.
type model struct {
	// blocks hold the acknowledged value, pending those of changes that were not acknowledged, volatile the values that
	// a loss of power may bring back because nothing was flushed since they were replaced.
	blocks   map[int64]uint64
	pending  map[int64][]uint64
	volatile map[int64][]uint64
	// dropped counts those that flushes made impossible.
	dropped map[int64]int
	// buffers are those of changes on their way.
	buffers map[*buffer.Buffer]bool
	// span is how many Blocks are changed, most how many by one change.
	span, most int64
	rare       rare
}

// crashed takes back what the end of the process left on its way.
func (m *model) crashed() {
	for b := range m.buffers {
		b.Release()
	}
	clear(m.buffers)
}

func newModel() *model {
	m := &model{
		blocks: map[int64]uint64{}, pending: map[int64][]uint64{}, volatile: map[int64][]uint64{}, dropped: map[int64]int{},
		buffers: map[*buffer.Buffer]bool{}, span: modelBlocks, most: 8,
	}
	m.rare.buffers = m.buffers
	return m
}

// crowd has changes hit the same Blocks again and again, and larger ones than the Journal carries.
func (m *model) crowd() { m.span, m.most = 24, 16 }

// replaced counts all values that were ever replaced.
func (m *model) replaced() map[int64]int {
	n := map[int64]int{}
	for i, values := range m.volatile {
		n[i] = m.dropped[i] + len(values)
	}
	return n
}

// flushed forgets what had been replaced when the flush began.
func (m *model) flushed(replaced map[int64]int) {
	for i, n := range replaced {
		if gone := n - m.dropped[i]; gone > 0 {
			m.volatile[i], m.dropped[i] = m.volatile[i][gone:], n
		}
	}
}

const (
	modelBlocks = 600 // a few Extents
	crashOps    = 400
)

// change is an IO on its way.
type change struct {
	m      *model
	io     store.IO
	value  uint64
	first  int64
	blocks int64
	open   *int
	// replaced is the model's, when a flush began, noted what it covers besides.
	replaced map[int64]int
	noted    []noted
}

func (c *change) IODone(io *store.IO) {
	*c.open--
	if io.Buf != nil {
		delete(c.m.buffers, io.Buf)
		io.Buf.Release()
	}
	if io.Err != nil {
		return
	}
	switch io.Op {
	case store.OpFlush:
		c.m.flushed(c.replaced)
		flushed(c.noted)
	case store.OpWrite, store.OpDiscard:
		for i := c.first; i < c.first+c.blocks; i++ {
			c.m.volatile[i] = append(c.m.volatile[i], c.m.blocks[i])
			c.m.blocks[i] = c.at(i)
			delete(c.m.pending, i)
		}
	}
}

// at is the value of Block i after the change, 0 for a discarded one.
func (c *change) at(i int64) uint64 {
	if c.io.Op == store.OpDiscard {
		return 0
	}
	return c.value + uint64(i-c.first)
}

// workload runs random changes that never overlap while on their way, and stops at a random step of the Device.
func workload(t *testing.T, r *rig, h store.Handle, m *model, chance *rand.Rand) {
	t.Helper()
	open, stop := 0, chance.IntN(crashOps*4)
	seq := ident.Seq(1)
	for i := 0; i < crashOps && stop > 0; i++ {
		submitRandom(r, h, m, chance, &seq, &open)
		if r.scribbles && chance.IntN(10) == 0 {
			r.s.Rest()
		}
		if chance.IntN(60) == 0 {
			r.s.Checkpoint(func(error) {})
		}
		r.kick()
		for r.device.Pending() > 0 && (open > 8 || chance.IntN(3) > 0) && stop > 0 {
			r.device.Step(m.pick(chance, r.device.Pending()))
			r.kick()
			stop--
		}
	}
}

// pick is the request that the Device does next; in a crowd old ones often wait until much newer ones are done.
func (m *model) pick(chance *rand.Rand, pending int) int {
	if m.span < modelBlocks && chance.IntN(4) > 0 {
		return pending - 1
	}
	return chance.IntN(pending)
}

func submitRandom(r *rig, h store.Handle, m *model, chance *rand.Rand, seq *ident.Seq, open *int) {
	if chance.IntN(5) == 0 {
		m.rare.submit(r, chance, open)
		return
	}
	first := chance.Int64N(m.span)
	n := min(1+chance.Int64N(m.most), m.span-first)
	rare := 20
	if r.scribbles {
		rare = 5
	}
	whole := chance.IntN(rare) == 0
	if whole { // a whole Extent, so that it is freed
		first -= first % layout.ExtentBlocks
		n = min(layout.ExtentBlocks, m.span-first)
	}
	c := &change{m: m, first: first, blocks: n, open: open, replaced: m.replaced(), noted: m.rare.covered()}
	c.io = store.IO{Op: store.OpFlush, Replica: h, Done: c}
	if kind := chance.IntN(10); kind > 0 {
		for i := first; i < first+n; i++ {
			if _, busy := m.pending[i]; busy {
				return
			}
		}
		c.io.Op, c.io.Offset, c.io.Length, c.io.Seq, c.io.Epoch = store.OpWrite, first*block, int(n)*block, *seq, 1
		*seq++
		c.value = chance.Uint64() | 1
		if kind == 1 || whole {
			c.io.Op = store.OpDiscard
		} else {
			c.io.Buf = pool.Get(int(n) * block)
			m.buffers[c.io.Buf] = true
			copy(c.io.Buf.Bytes(), fill(int(n)*block, c.value))
		}
		for i := first; i < first+n; i++ {
			m.pending[i] = append(m.pending[i], c.at(i))
		}
	}
	*open++
	r.s.Submit(&c.io)
}

// check reads every Block and says whether it may hold what it holds.
func (m *model) check(t *testing.T, r *rig, h store.Handle, powerLost bool) {
	t.Helper()
	failed := map[int64]bool{}
	for i := range int64(modelBlocks) {
		got, err := r.read(h, i*block, block)
		allowed := append([]uint64{m.blocks[i]}, m.pending[i]...)
		if powerLost {
			allowed = append(allowed, m.volatile[i]...)
		}
		// A Block whose overwrite was torn by loss of power is neither old nor new, and says so; but not one that was
		// only discarded since it was flushed.
		since := m.pending[i]
		if n := len(m.volatile[i]); n > 0 {
			since = append(append(since[:len(since):len(since)], m.volatile[i][1:]...), m.blocks[i])
		}
		torn := powerLost && slices.ContainsFunc(since, func(value uint64) bool { return value != 0 })
		if isTorn(err) && torn {
			failed[i] = true
			continue
		}
		if err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		ok := false
		for _, v := range allowed {
			want := make([]byte, block)
			if v != 0 {
				want = fill(block, v)
			}
			ok = ok || bytes.Equal(got, want)
		}
		if !ok {
			t.Fatalf("block %d holds %x, allowed %x", i, got[:8], allowed)
		}
	}
	m.checkTogether(t, r, h, failed)
	m.rare.check(t, r, powerLost)
}

// checkTogether reads several Blocks at a time: that works if it did one by one.
func (m *model) checkTogether(t *testing.T, r *rig, h store.Handle, failed map[int64]bool) {
	t.Helper()
	const together = 8
	for first := int64(0); first+together <= modelBlocks; first += together {
		mayFail := false
		for i := first; i < first+together; i++ {
			mayFail = mayFail || failed[i]
		}
		if _, err := r.read(h, first*block, together*block); err != nil && !mayFail {
			t.Errorf("blocks from %d on can be read one by one, but not together: %v", first, err)
		}
	}
}

// TestNoAcknowledgedWriteIsLostWhereverItCrashes ends the process, or the power, at a random step of a random
// workload, with requests completing in random order, and recovers, several times over.
func TestNoAcknowledgedWriteIsLostWhereverItCrashes(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 20
	}
	for seed := range uint64(seeds) {
		crashOnce(t, seed, false)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestNoDiscardDestroysWhatIsWrittenSince does the same with a Device on which a discard, whenever it lands, leaves
// garbage, and with Extents that are freed and used again all the time.
func TestNoDiscardDestroysWhatIsWrittenSince(t *testing.T) {
	seeds := 100
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		crashOnce(t, seed, true)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func crashOnce(t *testing.T, seed uint64, scribbles bool) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	chance := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, 64<<20)
	if r.scribbles = scribbles; r.open() != nil {
		t.Fatal("cannot open again")
	}
	r.device.SetWhims(whims(seed))
	h := r.create(t, 0, modelBlocks*block)
	m := newModel()
	m.rare.begin(h)
	if seed%2 == 1 {
		m.crowd()
	}
	if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		workload(t, r, h, m, chance)
		powerLost := chance.IntN(2) == 0
		after := r.dies(powerLost, chance)
		m.crashed()
		if err := after.open(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		handle, ok := after.s.Lookup(key(0))
		if !ok {
			t.Fatalf("seed %d: the replica is gone", seed)
		}
		m.check(t, after, handle, powerLost)
		m.adopt(t, after, handle)
		r, h = after, handle
	}
}

// adopt takes what is there now as the truth, as a reconcile would: every doubtful Block is written again.
func (m *model) adopt(t *testing.T, r *rig, h store.Handle) {
	t.Helper()
	for i := range int64(modelBlocks) {
		if len(m.pending[i])+len(m.volatile[i]) == 0 {
			continue
		}
		value := uint64(i)<<8 | 1
		if err := r.write(h, i*block, fill(block, value), 0); err != nil {
			t.Fatal(err)
		}
		m.blocks[i] = value
	}
	m.rare.adopt(t, r)
	if err := r.do(&store.IO{Op: store.OpFlush, Replica: h}); err != nil {
		t.Fatal(err)
	}
	m.pending, m.volatile, m.dropped = map[int64][]uint64{}, map[int64][]uint64{}, map[int64]int{}
}

// TestTheJournalGoesRoundManyTimes writes many laps of a small Journal, with recoveries in between.
func TestTheJournalGoesRoundManyTimes(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 8<<20)
	const blocks = 512
	for round := range uint64(12) {
		for i := range int64(blocks) {
			data := fill(block, round<<32|uint64(i)<<8|1)
			if err := r.write(h, i*block, data, ident.Seq(round*blocks+uint64(i)+1)); err != nil {
				t.Fatal(err)
			}
		}
		r = &rig{device: r.device.Kill(rand.New(rand.NewPCG(round, 0)), nil)}
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		h, _ = r.s.Lookup(key(0))
		for i := range int64(blocks) {
			got, err := r.read(h, i*block, block)
			if err != nil || !bytes.Equal(got, fill(block, round<<32|uint64(i)<<8|1)) {
				t.Fatalf("round %d, block %d: %v", round, i, err)
			}
		}
	}
	tail := r.s.Tail(h, nil)
	if len(tail) != layout.TailLength || tail[len(tail)-1].Seq != 12*blocks {
		t.Errorf("tail of %d ends at %d", len(tail), tail[len(tail)-1].Seq)
	}
}
