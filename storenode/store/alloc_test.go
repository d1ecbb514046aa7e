package store_test

import (
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/store"
)

// inTurn hands on that an IO is done.
type inTurn chan error

func (c inTurn) IODone(io *store.IO) { c <- io.Err }

// TestAWriteAndAReadAllocateNothing writes over Blocks again and again, on a real Device; what a Checkpoint allocates
// now and then is for many writes.
func TestAWriteAndAReadAllocateNothing(t *testing.T) {
	const size, length = 32 << 20, 4096
	m, h := onDisk(t, size)
	done, seq := make(inTurn, 1), ident.Seq(0)
	io := &store.IO{}
	buf := buffer.New(8 << 20).Get(length)
	one := func(op store.Op, offset int64) {
		seq++
		*io = store.IO{Op: op, Replica: h, Offset: offset, Length: length, Buf: buf, Done: done, Seq: seq, Epoch: 1}
		m.Enter()
		m.s.Submit(io)
		m.Leave()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	at := int64(0)
	round := func() {
		at = (at + 7*length) % (1 << 20)
		one(store.OpWrite, at)
		one(store.OpRead, at)
	}
	for range 1000 {
		round()
	}
	if n := testing.AllocsPerRun(1000, round); n != 0 {
		t.Errorf("a write and a read allocate %v times", n)
	}
	if err := m.s.Close(); err != nil {
		t.Error(err)
	}
}
