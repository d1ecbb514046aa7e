package extent

import (
	"encoding/binary"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
)

// FuzzReplay carries out what may lie in the Journal behind a right checksum: records that are none of this Device's
// are refused, and whatever is accepted leaves a table that agrees with itself.
func FuzzReplay(f *testing.F) {
	var b []byte
	for _, r := range records() {
		b = journal.Append(b, &r)
		f.Add(b)
	}
	g := smallest(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		replay(t, g, in)
	})
}

// FuzzReplayOfAFrame begins one step before, with all of the frame.
func FuzzReplayOfAFrame(f *testing.F) {
	const salt, number = 42, 7
	b := make([]byte, journal.FrameSize)
	used := 0
	for _, r := range records() {
		used += copy(journal.Room(b)[used:], journal.Append(nil, &r))
		journal.Seal(b, salt, number, journal.Marks{Flushed: 5, Boot: 6, Settled: 4}, used)
		f.Add(append([]byte(nil), b...))
	}
	g := smallest(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		b := make([]byte, journal.FrameSize)
		copy(b, in)
		// No input comes past the checksum by chance: put the right one in.
		binary.LittleEndian.PutUint32(b[len(b)-4:], layout.CRC(b[:len(b)-4]))
		frame, err := journal.Open(b, salt, number)
		if err != nil {
			return
		}
		if frame.Number != number || frame.Settled >= number {
			t.Errorf("accepted as frame %d with %d settled", frame.Number, frame.Settled)
		}
		replay(t, g, frame.Records)
	})
}

func records() []journal.Record {
	write := journal.Record{
		Type: journal.Write, First: 3, Blocks: 2, Logical: 1, Extent: 2, Seq: 11, Epoch: 12, CRCs: []byte("12345678"),
	}
	again := write
	again.Type, again.Extent = journal.WriteData, 3
	return []journal.Record{
		{Type: journal.Create, Key: ident.ReplicaKey{Replica: 1}, Size: 4 << 20},
		write, again,
		{Type: journal.Note, Seq: 13, Epoch: 12, Offset: 4096, Length: 8192},
		{Type: journal.Clear, First: 3, Blocks: 2, Logical: 1, Extent: 3, Seq: 12, Epoch: 12},
		{Type: journal.SetGeneration, Generation: 9},
		{Type: journal.Sound},
		{Type: journal.Delete},
	}
}

func smallest(f *testing.F) layout.Geometry {
	f.Helper()
	g, err := layout.NewGeometry(layout.MinDevice)
	if err != nil {
		f.Fatal(err)
	}
	return g
}

func replay(t *testing.T, g layout.Geometry, records []byte) {
	t.Helper()
	table := New(g)
	for rest := records; len(rest) > 0; {
		var r journal.Record
		var err error
		if rest, err = journal.Next(rest, &r); err != nil {
			break
		}
		if table.Apply(&r) != nil {
			break
		}
	}
	owned := 0
	for x := range table.Len() {
		replica, logical := table.Owner(x)
		if replica == None {
			continue
		}
		owned++
		if found := table.Find(replica, logical); found != x {
			t.Fatalf("extent %d is part %d of replica %d, which has extent %d there", x, logical, replica, found)
		}
	}
	table.Ready()
	if table.Used()+table.FreeCount() != int(table.Len()) {
		t.Fatalf("%d extents are used and %d free, of %d", table.Used(), table.FreeCount(), table.Len())
	}
	if owned > table.Used() {
		t.Fatalf("%d extents have an owner, %d are used", owned, table.Used())
	}
}
