package client

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

const testShard = 1 << 20

func TestTheWindowIsTheOneStorenodesKeep(t *testing.T) {
	if window != replication.SessionWindow {
		t.Errorf("window is %d, storenodes remember %d", window, replication.SessionWindow)
	}
}

func TestWhatWasWrittenIsReadAcrossShards(t *testing.T) {
	x := newCluster(t, 3, 4, testShard)
	v := x.open(t)
	for i, at := range []int64{0, testShard - 4096, 2*testShard - 128<<10, 3 * testShard} {
		want := pattern(256<<10, uint64(i))
		do(t, v, OpWrite, at, len(want), want)
		if !bytes.Equal(x.read(at, len(want)), want) {
			t.Errorf("write at %d did not arrive as it was", at)
		}
		if got := do(t, v, OpRead, at, len(want), nil); !bytes.Equal(got, want) {
			t.Errorf("read at %d differs", at)
		}
	}
	do(t, v, OpDiscard, 4096, 4*testShard-8192, nil)
	do(t, v, OpWriteZeroes, 0, 4096, nil)
	if !bytes.Equal(x.read(0, 4*testShard-4096), make([]byte, 4*testShard-4096)) {
		t.Error("discard left something")
	}
}

// A Buffer that a read has filled carries the checksums it came with; they end when the caller may write to it.
func TestABufferIsReadIntoChangedAndWritten(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	do(t, v, OpWrite, 0, 64<<10, pattern(64<<10, 1))
	c := &call{done: make(chan struct{}, 1)}
	c.Buffer = v.Buffer(64 << 10)
	defer func() { c.Buffer.Release() }()
	run := func(op Op, offset int64) {
		t.Helper()
		c.Op, c.Offset, c.Length, c.Done = op, offset, 64<<10, c
		v.Submit(&c.Request)
		v.Kick()
		if <-c.done; c.Err != nil {
			t.Fatal(c.Err)
		}
	}
	run(OpRead, 0)
	want := pattern(64<<10, 2)
	copy(c.Buffer.Bytes(), want)
	run(OpWrite, 128<<10)
	if !bytes.Equal(x.read(128<<10, len(want)), want) {
		t.Error("the write did not arrive as it was")
	}
}

func TestAFlushCoversWhatWasAcknowledgedAndNoMore(t *testing.T) {
	x := newCluster(t, 2, 3, testShard)
	v := x.open(t)
	flushes := func(want int) {
		t.Helper()
		x.mu.Lock()
		defer x.mu.Unlock()
		if got := x.seen[wire.OpFlush]; got != want {
			t.Errorf("%d shards were flushed, want %d", got, want)
		}
		x.seen[wire.OpFlush] = 0
	}
	do(t, v, OpFlush, 0, 0, nil)
	flushes(3) // an earlier session may have left something
	do(t, v, OpFlush, 0, 0, nil)
	flushes(0)
	want := pattern(8192, 1)
	do(t, v, OpWrite, testShard-4096, 8192, want)
	do(t, v, OpDiscard, 0, 4096, nil)
	do(t, v, OpFlush, 0, 0, nil)
	flushes(2)
	x.mu.Lock()
	if !bytes.Equal(x.flushed[testShard-4096:testShard+4096], want) {
		t.Error("an acknowledged write was not flushed")
	}
	x.mu.Unlock()
	do(t, v, OpFlush, 0, 0, nil)
	flushes(0)
}

func TestRequestsOutOfBoundsAreRefused(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	for name, r := range map[string]Request{
		"beyond the end":  {Op: OpDiscard, Offset: testShard, Length: 4096},
		"over the end":    {Op: OpDiscard, Offset: testShard - 4096, Length: 8192},
		"not aligned":     {Op: OpDiscard, Offset: 512, Length: 4096},
		"odd length":      {Op: OpDiscard, Offset: 0, Length: 5000},
		"negative":        {Op: OpDiscard, Offset: -4096, Length: 4096},
		"empty":           {Op: OpDiscard},
		"without buffer":  {Op: OpWrite, Offset: 0, Length: 4096},
		"unknown":         {Op: 77, Offset: 0, Length: 4096},
		"without any":     {},
		"longer than max": {Op: OpWriteZeroes, Length: MaxSpan + 4096},
	} {
		c := &call{Request: r, done: make(chan struct{}, 1)}
		c.Done = c
		v.Submit(&c.Request)
		if _, err := c.end(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatusesReachTheRequestAsErrors(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	for status, want := range map[wire.Status]error{
		wire.StatusNoSpace: ErrNoSpace, wire.StatusIO: ErrIO, wire.StatusCorruption: ErrCorruption,
		wire.StatusInvalid: ErrInvalid, 999: ErrInvalid,
	} {
		x.nodes[0].set(func(n *node) { n.answer = status })
		if _, err := begin(v, OpRead, 0, 4096, nil).end(); !errors.Is(err, want) {
			t.Errorf("status %d: %v, want %v", status, err, want)
		}
	}
	x.nodes[0].set(func(n *node) { n.answer = 0 })
	do(t, v, OpWrite, 0, 4096, pattern(4096, 1)) // a failed request harms no other
}

func TestANewerAttachmentFencesForGood(t *testing.T) {
	x := newCluster(t, 2, 2, testShard)
	v := x.open(t)
	do(t, v, OpWrite, 0, 4096, nil)
	x.nodes[1].set(func(n *node) { n.silent = true })
	waits := begin(v, OpWrite, testShard, 4096, nil) // to the silent one
	newer, err := Open(t.Context(), x.options(2))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = newer.Close() }()
	if _, err := begin(v, OpWrite, 0, 4096, nil).end(); !errors.Is(err, ErrFenced) {
		t.Errorf("older attachment's write: %v", err)
	}
	if _, err := waits.end(); !errors.Is(err, ErrFenced) {
		t.Errorf("write in flight: %v", err)
	}
	if _, err := begin(v, OpRead, 0, 4096, nil).end(); !errors.Is(err, ErrFenced) {
		t.Errorf("later read: %v", err)
	}
	if _, err := Open(t.Context(), x.options(1)); !errors.Is(err, ErrFenced) {
		t.Errorf("open with the older generation: %v", err)
	}
}

func TestOpenSaysWhyNot(t *testing.T) {
	x := newCluster(t, 2, 1, testShard)
	x.nodes[0].set(func(n *node) { n.unknown = true })
	v, err := Open(t.Context(), x.options(1))
	if err != nil {
		t.Fatalf("one knows the volume, yet: %v", err)
	}
	_ = v.Close()
	x.nodes[1].set(func(n *node) { n.unknown = true })
	if _, err := Open(t.Context(), x.options(1)); !errors.Is(err, ErrUnknownVolume) {
		t.Errorf("nobody knows it: %v", err)
	}
	x.nodes[1].kill()
	if _, err := Open(t.Context(), x.options(1)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("one does not know it and one is away: %v", err)
	}
	o := x.options(1)
	o.Generation = 0
	if _, err := Open(t.Context(), o); err == nil {
		t.Error("opened without a generation")
	}
}

func TestAMapOfManyPagesIsWhole(t *testing.T) {
	x := newCluster(t, 2, 2*wire.MaxPageShards+3, 4096)
	v := x.open(t)
	last := v.Size() - 4096
	want := pattern(4096, 5)
	do(t, v, OpWrite, last, 4096, want)
	do(t, v, OpFlush, 0, 0, nil)
	if got := do(t, v, OpRead, last, 4096, nil); !bytes.Equal(got, want) {
		t.Error("the last shard gives other bytes")
	}
}

func TestMoreThanTheWindowWaitsInTheClient(t *testing.T) {
	x := newCluster(t, 1, 1, 4<<20)
	v := x.open(t)
	x.nodes[0].set(func(n *node) { n.silent = true })
	calls := make([]*call, 3*window)
	for i := range calls {
		calls[i] = begin(v, OpWrite, int64(i)*4096, 4096, pattern(4096, uint64(i)))
	}
	x.nodes[0].set(func(n *node) { n.silent = false })
	x.nodes[0].kill() // what it swallowed is sent again
	x.nodes[0].start()
	for i, c := range calls {
		if _, err := c.end(); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	for i := range calls {
		if !bytes.Equal(x.read(int64(i)*4096, 4096), pattern(4096, uint64(i))) {
			t.Errorf("write %d is not there", i)
		}
	}
}

// Copies for a Shard that is away may be all that there can be.
func TestAPartWithoutMemoryHoldsUpNoOther(t *testing.T) {
	x := newCluster(t, 2, 4, testShard)
	v := x.open(t)
	for i := range int64(4) {
		do(t, v, OpWrite, i*testShard, 4096, nil)
	}
	x.nodes[1].set(func(n *node) { n.silent = true })
	v.mu.Lock()
	v.copyLimit = 1                     // one copy at a time
	v.shards[1].primary.heard = 1 << 40 // so that nobody takes over
	v.mu.Unlock()
	want := pattern(8192, 1)
	crossing := []*call{begin(v, OpWrite, testShard-4096, 8192, want)}
	until(func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.shards[0].outstanding == 0 && v.shards[1].find(2).copied != nil
	})
	crossing = append(crossing, begin(v, OpWrite, 3*testShard-4096, 8192, want))
	x.nodes[0].set(func(n *node) { n.answer = wire.StatusBusy })
	c := begin(v, OpWrite, 2*testShard, 4096, pattern(4096, 2))
	until(func() bool { return v.o.Metrics.Busy.Load() > 0 })
	x.nodes[0].set(func(n *node) { n.answer = 0 })
	if _, err := c.end(); err != nil { // as soon as it is sent again
		t.Fatal(err)
	}
	if crossing[1].isOver() {
		t.Error("there was memory for all")
	}
	x.nodes[1].kill()
	x.nodes[1].set(func(n *node) { n.silent = false })
	x.nodes[1].start()
	for i, c := range crossing {
		if _, err := c.end(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(x.read(int64(2*i+1)*testShard-4096, 8192), want) {
			t.Errorf("write %d is not there", i)
		}
	}
}

func TestCloseEndsWhatIsInFlight(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	o := x.options(1)
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	x.nodes[0].set(func(n *node) { n.silent = true })
	c := begin(v, OpWrite, 0, 4096, nil)
	for range 2 {
		if err := v.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := c.end(); !errors.Is(err, ErrClosed) {
		t.Errorf("write in flight: %v", err)
	}
	if _, err := begin(v, OpRead, 0, 4096, nil).end(); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if in, _ := o.Pool.Use(); in != 0 {
		t.Errorf("%d bytes of the pool are lost", in)
	}
}

func TestAKilledPrimaryIsFollowedToItsSuccessor(t *testing.T) {
	x := newCluster(t, 3, 3, testShard)
	v := x.open(t)
	for i := range int64(3) {
		do(t, v, OpWrite, i*testShard, 4096, pattern(4096, uint64(i)))
	}
	x.nodes[0].kill()
	c := begin(v, OpWrite, 4096, 4096, pattern(4096, 9)) // Shard 0, whose Primary is gone
	x.promote(1, all)
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		if got := do(t, v, OpRead, i*testShard, 4096, nil); !bytes.Equal(got, pattern(4096, uint64(i))) {
			t.Errorf("shard %d gives other bytes", i)
		}
	}
}

func TestAPrimaryThatNeverAnswersIsLeftForItsSuccessor(t *testing.T) {
	for name, sick := range map[string]func(n *node){
		"takes requests": func(n *node) { n.silent = true },
		"says no hello":  func(n *node) { n.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			x := newCluster(t, 2, 1, testShard)
			v := x.open(t)
			x.nodes[0].set(sick)
			c := begin(v, OpWrite, 0, 4096, pattern(4096, 1))
			x.promote(1, all)
			if _, err := c.end(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(x.read(0, 4096), pattern(4096, 1)) {
				t.Error("acknowledged and not there")
			}
		})
	}
}

func TestAShardWithoutPrimaryWaitsForOne(t *testing.T) {
	x := newCluster(t, 2, 1, testShard)
	v := x.open(t)
	x.mu.Lock()
	x.records[0].Epoch++
	x.records[0].Primary = 0
	x.mu.Unlock()
	c := begin(v, OpWrite, 0, 4096, nil)
	until(func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.nodes[0].asked+x.nodes[1].asked > 4
	})
	x.promote(1, all)
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
	if v.o.Metrics.Redirects.Load() == 0 {
		t.Error("no redirect was counted")
	}
}

func TestAStorenodeThatMovedIsFoundAtItsNewAddress(t *testing.T) {
	x := newCluster(t, 2, 1, testShard)
	v := x.open(t)
	do(t, v, OpWrite, 0, 4096, pattern(4096, 3))
	x.nodes[0].kill()
	x.nodes[0].address = "127.0.0.1:0"
	x.nodes[0].start()
	x.mu.Lock()
	moved := slices.Clone(x.records[0].Replicas)
	moved[0].Address = x.nodes[0].address
	x.records[0].Replicas = moved
	x.mu.Unlock()
	if got := do(t, v, OpRead, 0, 4096, nil); !bytes.Equal(got, pattern(4096, 3)) {
		t.Error("other bytes")
	}
	if got := v.Addresses(); !slices.Equal(got, []string{moved[0].Address, moved[1].Address}) {
		t.Errorf("the volume is at %v, and says %v", moved, got)
	}
}

func TestTheAddressesOfAVolumeAreBoundedAndDistinct(t *testing.T) {
	x := newCluster(t, 1, MaxAddresses, testShard)
	for i := range x.records {
		x.records[i].Replicas = nil
		for n := range 3 {
			at := membership.Replica{ID: ident.ReplicaID(n + 1), Address: x.nodes[0].address}
			if n > 0 {
				at.Address = fmt.Sprintf("127.0.0.1:%d", i+n)
			}
			x.records[i].Replicas = append(x.records[i].Replicas, at)
		}
	}
	x.records[0].Replicas[1].Address = ""
	got := x.open(t).Addresses()
	if len(got) != MaxAddresses || got[0] != x.nodes[0].address || got[1] != "127.0.0.1:2" || got[2] != "127.0.0.1:3" {
		t.Errorf("%d addresses: %v", len(got), got)
	}
}

func TestAStalledVolumeIsCountedUntilItGoesOn(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	m := v.o.Metrics
	x.nodes[0].set(func(n *node) { n.answer = wire.StatusBusy })
	c := begin(v, OpRead, 0, 4096, nil)
	until(func() bool { return m.Stalled.Load() == 1 })
	if m.InFlight.Load() != 1 {
		t.Errorf("%d in flight", m.InFlight.Load())
	}
	x.nodes[0].set(func(n *node) { n.answer = 0 })
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
	if m.StalledSeconds() < 1 || m.Busy.Load() == 0 || m.Resends.Load() == 0 {
		t.Errorf("stalled %v s, busy %d, resends %d", m.StalledSeconds(), m.Busy.Load(), m.Resends.Load())
	}
}

func TestAnIdleVolumeLetsItsClockStandStill(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	do(t, v, OpRead, 0, 4096, nil)
	until(func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return !v.armed
	})
	if len(v.active) != 0 {
		t.Errorf("%d shards are active", len(v.active))
	}
}

func TestARecordOfALowerEpochIsIgnored(t *testing.T) {
	x := newCluster(t, 2, 1, testShard)
	v := x.open(t)
	x.promote(1, all)
	do(t, v, OpRead, 0, 4096, nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &v.shards[0]
	old := s.record
	old.Epoch, old.Primary = 1, 1
	if s.adopt(old, true) || s.record.Epoch != 2 || s.record.Primary != ident.ReplicaID(2) {
		t.Errorf("record is %+v", s.record)
	}
}

// A Primary that only this client cannot reach is replaced by nobody, unless somebody is told.
func TestAPrimaryThatCannotBeReachedFromHereIsToldOf(t *testing.T) {
	x := newCluster(t, 3, 1, 1<<20)
	v := x.open(t)
	x.nodes[0].set(func(n *node) { n.silent = true })
	do(t, v, OpWrite, 0, 4096, pattern(4096, 1))
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.yielded != 1 || x.records[0].Primary == 1 {
		t.Errorf("%d Primaries yielded, replica %d is the Primary", x.yielded, x.records[0].Primary)
	}
}

func TestAPrimaryThatAnswersAndIsBusyIsNotToldOf(t *testing.T) {
	x := newCluster(t, 3, 1, 1<<20)
	v := x.open(t)
	x.nodes[0].set(func(n *node) { n.answer = wire.StatusBusy })
	c := begin(v, OpWrite, 0, 4096, pattern(4096, 1))
	until(func() bool { return v.o.Metrics.StalledTicks.Load() > 2*pleadTicks })
	x.nodes[0].set(func(n *node) { n.answer = 0 })
	if _, err := c.end(); err != nil {
		t.Error(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.yielded != 0 {
		t.Errorf("%d Primaries yielded", x.yielded)
	}
}

// moved is a request that was sent to a Primary and, when another was promoted, to that one. Neither answers.
func moved(t *testing.T, v *Volume, x *cluster, op Op) (c *call, former, last *link, answer transport.Frame) {
	t.Helper()
	for _, n := range x.nodes {
		n.set(func(n *node) { n.silent = true })
	}
	c = begin(v, op, 0, 4096, pattern(4096, 1))
	part := &c.first
	at := func() *link {
		v.mu.Lock()
		defer v.mu.Unlock()
		return part.link
	}
	until(func() bool { return at() != nil })
	former = at()
	v.mu.Lock()
	r := v.shards[0].record
	r.Epoch, r.Primary = r.Epoch+1, 3-r.Primary
	v.shards[0].adopt(r, false)
	id := part.id
	v.mu.Unlock()
	until(func() bool { l := at(); return l != nil && l != former })
	return c, former, at(), transport.Frame{Header: wire.Header{
		Opcode: op.opcode(), Flags: wire.FlagReply, Session: v.session, Request: id, Shard: ident.ShardID{Volume: x.id},
	}}
}

// gives has a link hear a frame.
func (l *link) gives(t *testing.T, f transport.Frame) {
	t.Helper()
	if err := l.Frame(nil, &f); err != nil {
		t.Fatal(err)
	}
	l.Idle(nil)
}

func (c *call) isOver() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// What the copy that is on its way would do to a later change of the same Block is the loss of that. An error may be
// the former Primary's alone.
func TestARequestEndsByTheConnectionThatHasItLast(t *testing.T) {
	for op, statuses := range map[Op][]wire.Status{OpWrite: {wire.StatusOK, wire.StatusIO}, OpRead: {wire.StatusIO}} {
		x := newCluster(t, 2, 1, testShard)
		v := x.open(t)
		c, former, last, answer := moved(t, v, x, op)
		for _, answer.Status = range statuses {
			if former.gives(t, answer); c.isOver() {
				t.Fatalf("operation %d ended by status %d of the former primary", op, answer.Status)
			}
		}
		answer.Status = wire.StatusNoSpace
		last.gives(t, answer)
		if _, err := c.end(); !errors.Is(err, ErrNoSpace) {
			t.Errorf("operation %d: %v", op, err)
		}
	}
}

func TestWhatWasSentByAnOlderRecordIsSentAgainAtOnce(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	x.nodes[0].set(func(n *node) { n.silent = true })
	c := begin(v, OpWrite, 0, 4096, pattern(4096, 1))
	until(func() bool { v.mu.Lock(); defer v.mu.Unlock(); return c.first.link != nil })
	v.mu.Lock()
	s := &v.shards[0]
	r := s.record
	r.Epoch++
	s.adopt(r, false)
	l := c.first.link
	f := transport.Frame{Header: wire.Header{
		Opcode: wire.OpWrite, Flags: wire.FlagReply, Session: v.session, Request: c.first.id,
		Shard: ident.ShardID{Volume: x.id}, Status: wire.StatusStaleEpoch,
	}}
	if err := l.take(&f); err != nil {
		t.Error(err)
	}
	if c.first.link != l || c.first.epoch != r.Epoch || c.first.pause != 0 {
		t.Errorf("it waits for %d ticks", c.first.pause)
	}
	v.mu.Unlock()
	x.mu.Lock()
	x.records[0].Epoch = r.Epoch
	x.mu.Unlock()
	x.nodes[0].kill()
	x.nodes[0].set(func(n *node) { n.silent = false })
	x.nodes[0].start()
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
}

func TestAnAnswerBeforeTheQuestionEndsTheConnection(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	v.mu.Lock()
	l := &link{volume: v, peer: v.peerAt("192.0.2.1:7800")}
	v.mu.Unlock()
	f := transport.Frame{Header: wire.Header{Opcode: wire.OpHello, Flags: wire.FlagReply}}
	if err := l.Frame(nil, &f); err == nil {
		t.Error("hello was answered before it was said")
	}
}
