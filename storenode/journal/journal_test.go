package journal

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

func samples() []Record {
	return []Record{
		{Type: Write, Replica: 1, First: 3, Blocks: 2, Logical: 7, Extent: 9, Seq: 11, Epoch: 12, CRCs: []byte("12345678")},
		{Type: Clear, Replica: 1, First: 0, Blocks: 256, Logical: 7, Extent: 9, Epoch: 12},
		{Type: Create, Replica: 2, Key: ident.ReplicaKey{Shard: ident.ShardID{Index: 4}, Replica: 5}, Size: 1 << 30},
		{Type: SetRecord, Replica: 2, Membership: membership.Record{Epoch: 3, Primary: 1, InSync: []ident.ReplicaID{1}}},
		{Type: SetGeneration, Replica: 2, Generation: 9},
		{Type: Note, Replica: 2, Seq: 13, Epoch: 12, Offset: 4096, Length: 8192},
		{Type: Delete, Replica: 2},
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	var b []byte
	for i := range samples() {
		b = Append(b, &samples()[i])
	}
	for _, want := range samples() {
		var got Record
		var err error
		if b, err = Next(b, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if len(b) > 0 {
		t.Errorf("%d bytes left over", len(b))
	}
}

func TestOnlyTheFrameThatIsLookedForIsTaken(t *testing.T) {
	b := make([]byte, FrameSize)
	used := copy(Room(b), Append(nil, &samples()[0]))
	Seal(b, 42, 7, Marks{Flushed: 5, Boot: 6, Settled: 4}, used)
	f, err := Open(b, 42, 7)
	if err != nil || f.Marks != (Marks{Flushed: 5, Boot: 6, Settled: 4}) || len(f.Records) != used {
		t.Fatalf("%+v, %v", f, err)
	}
	if _, err := Open(b, 42, 8); !errors.Is(err, ErrNoFrame) {
		t.Errorf("an earlier lap was taken: %v", err)
	}
	if _, err := Open(b, 43, 7); !errors.Is(err, ErrNoFrame) {
		t.Errorf("another life was taken: %v", err)
	}
	for bit := range FrameSize * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := Open(b, 42, 7); !errors.Is(err, ErrNoFrame) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func TestAFrameThatIsTooFarBehindSaysNothingOfIt(t *testing.T) {
	b := make([]byte, FrameSize)
	for _, c := range []struct{ number, settled, want uint64 }{
		{100, 99, 99}, {100, 100, 0}, {100, 0, 0}, {1 << 40, 1<<40 - 65535, 1<<40 - 65535}, {1 << 40, 1<<40 - 65536, 0},
	} {
		Seal(b, 1, c.number, Marks{Settled: c.settled}, 0)
		if f, err := Open(b, 1, c.number); err != nil || f.Settled != c.want {
			t.Errorf("frame %d, settled %d: %d, %v", c.number, c.settled, f.Settled, err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	for i := range samples() {
		f.Add(Append(nil, &samples()[i]))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for rest := in; len(rest) > 0; {
			var r Record
			next, err := Next(rest, &r)
			if err != nil {
				return
			}
			if again := Append(nil, &r); string(again) != string(rest[:len(rest)-len(next)]) {
				t.Fatal("accepted bytes do not encode to themselves")
			}
			rest = next
		}
	})
}
