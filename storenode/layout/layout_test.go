package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

func sampleSuperblock(tb testing.TB) Superblock {
	tb.Helper()
	g, err := NewGeometry(256 << 20)
	if err != nil {
		tb.Fatal(err)
	}
	return Superblock{UUID: ident.UUID{1, 2}, Pool: "fast", Salt: 77, Geometry: g}
}

func sampleCheckpoint(g Geometry) Checkpoint {
	c := Checkpoint{Generation: 3, Frame: 9, Copies: make([]Copy, g.Extents)}
	c.Copies[0], c.Copies[5] = CopyFirst, CopySecond
	c.Replicas = []Replica{{
		Handle: 2, Key: ident.ReplicaKey{Replica: 4}, Size: 1 << 30, Generation: 6, LastSeq: 8,
		Record: membership.Record{Epoch: 5, Primary: 4, InSync: []ident.ReplicaID{4}},
		Tail:   []Tail{{Seq: 8, Epoch: 5, Offset: 4096, Length: 4096}},
	}}
	return c
}

func TestASuperblockComesBackAndAnyFlippedBitIsRefused(t *testing.T) {
	want := sampleSuperblock(t)
	b := make([]byte, Unit)
	want.Encode(b)
	var got Superblock
	if err := got.Decode(b); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	for bit := range Unit * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if err := got.Decode(b); !errors.Is(err, ErrCorruptSuperblock) && !errors.Is(err, ErrNotOurs) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func TestALaterFormatIsRefusedByName(t *testing.T) {
	s := sampleSuperblock(t)
	b := make([]byte, Unit)
	s.Encode(b)
	b[8]++
	sum(b)
	if err := s.Decode(b); !errors.Is(err, ErrVersion) {
		t.Errorf("Decode says %v", err)
	}
}

// TestASuperblockOfARightChecksumMayBeWrong: nothing on the Device is looked for where this program would not have put
// it.
func TestASuperblockOfARightChecksumMayBeWrong(t *testing.T) {
	le := binary.LittleEndian
	for what, spoil := range map[string]func(b []byte){
		"extent size":      func(b []byte) { le.PutUint32(b[12:], ExtentSize/2) },
		"size":             func(b []byte) { le.PutUint64(b[40:], 1<<50) },
		"negative size":    func(b []byte) { le.PutUint64(b[40:], 1<<63) },
		"journal":          func(b []byte) { le.PutUint64(b[48:], 0) },
		"checkpoint":       func(b []byte) { le.PutUint64(b[56:], le.Uint64(b[56:])+Unit) },
		"extents":          func(b []byte) { le.PutUint32(b[64:], le.Uint32(b[64:])+1) },
		"replicas":         func(b []byte) { le.PutUint32(b[68:], le.Uint32(b[68:])-1) },
		"length of a name": func(b []byte) { b[72] = maxPool + 1 },
	} {
		s := sampleSuperblock(t)
		b := make([]byte, Unit)
		s.Encode(b)
		spoil(b)
		sum(b)
		if err := s.Decode(b); !errors.Is(err, ErrCorruptSuperblock) {
			t.Errorf("%s: Decode says %v", what, err)
		}
	}
}

// sum puts the right checksum into a Superblock or a Slot.
func sum(b []byte) { binary.LittleEndian.PutUint32(b[crcAt:], CRC(b[:crcAt])) }

func TestASlotComesBackAndAnyFlippedBitIsRefused(t *testing.T) {
	want := Slot{Extent: 9, Replica: 2, Logical: 7, Epoch: 5, Blocks: new(Blocks)}
	want.Blocks.Set(0, 11)
	want.Blocks.Set(ExtentBlocks-1, 12)
	b := make([]byte, Unit)
	want.Encode(b, 77)
	got := Slot{Blocks: new(Blocks)}
	err := got.Decode(b, 77, 9)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	for bit := range Unit * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if err := got.Decode(b, 77, 9); !errors.Is(err, ErrCorruptSlot) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	for what, err := range map[string]error{
		"cut short":       got.Decode(b[:Unit-1], 77, 9),
		"of another life": got.Decode(b, 78, 9),
		"of another one":  got.Decode(b, 77, 8),
	} {
		if !errors.Is(err, ErrCorruptSlot) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestPartsOfADeviceDoNotOverlap(t *testing.T) {
	for _, size := range []int64{MinDevice, 100 << 20, 4 << 30, 1 << 40, 1<<43 + 12345} {
		g, err := NewGeometry(size)
		if err != nil {
			t.Fatal(err)
		}
		places := []int64{
			SuperblockCopies()[1] + Unit, g.JournalStart(), g.CheckpointStart(0), g.CheckpointStart(1), g.SlotStart(0, 0),
			g.ExtentStart(0), g.ExtentStart(g.Extents),
		}
		for i := 1; i < len(places); i++ {
			if places[i-1] > places[i] || places[i]%Unit != 0 {
				t.Errorf("%d bytes: places %v", size, places)
			}
		}
		if places[len(places)-1] > size || g.Capacity() < size*8/10 && size > 1<<30 {
			t.Errorf("%d bytes: ends at %d with %d for data", size, places[len(places)-1], g.Capacity())
		}
	}
}

func TestACheckpointComesBackAsItWas(t *testing.T) {
	g := sampleSuperblock(t).Geometry
	want := sampleCheckpoint(g)
	b := want.Encode(nil, 77)
	var got Checkpoint
	err := got.Decode(b, g, 77)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if err := got.Decode(b, g, 78); !errors.Is(err, ErrCorruptCheckpoint) {
		t.Errorf("of another life of the device: %v", err)
	}
}

func TestAForeignDeviceIsNamed(t *testing.T) {
	const size = 8 << 20
	for at, want := range map[int]string{0: "an XFS filesystem", 5 << 20: "", size - 1: "unknown data"} {
		b := make([]byte, size)
		copy(b[at:], "XFSB"[:min(4, size-at)])
		var s Superblock
		content, what, err := Probe(bytes.NewReader(b), size, &s)
		if err != nil || what != want || (content == Foreign) != (want != "") {
			t.Errorf("data at %d: %d %q %v", at, content, what, err)
		}
	}
	for _, signature := range signatures {
		b := make([]byte, size)
		copy(b[signature.at:], signature.text)
		var s Superblock
		content, what, err := Probe(bytes.NewReader(b), size, &s)
		if err != nil || content != Foreign || what != signature.what {
			t.Errorf("%s: %d %q %v", signature.what, content, what, err)
		}
	}
}

// TestADeviceThatSomebodyElseTookWithoutWipingIsNotOurs: one copy of the Superblock is there yet, or both.
func TestADeviceThatSomebodyElseTookWithoutWipingIsNotOurs(t *testing.T) {
	super := sampleSuperblock(t)
	ours := make([]byte, 8<<20)
	for _, at := range SuperblockCopies() {
		super.Encode(ours[at:])
	}
	look := func(b []byte) (Content, string) {
		t.Helper()
		var s Superblock
		content, what, err := Probe(bytes.NewReader(b), int64(len(b)), &s)
		if err != nil {
			t.Fatal(err)
		}
		return content, what
	}
	for _, s := range signatures {
		b := bytes.Clone(ours)
		copy(b[s.at:], s.text)
		if content, what := look(b); content != Corrupt || !strings.Contains(what, s.what) {
			t.Errorf("%s on it: %d %q", s.what, content, what)
		}
	}
	for _, at := range SuperblockCopies() {
		for story, damage := range map[string]func(copied []byte){
			"rotten": func(copied []byte) { copied[20] ^= 1 },
			"torn":   func(copied []byte) { clear(copied[512:]) },
			"zeros":  func(copied []byte) { clear(copied) },
		} {
			b := bytes.Clone(ours)
			damage(b[at : at+Unit])
			if content, what := look(b); content != Ours {
				t.Errorf("the copy at %d is %s: %d %q", at, story, content, what)
			}
		}
	}
}

func FuzzSuperblock(f *testing.F) {
	s := sampleSuperblock(f)
	b := make([]byte, Unit)
	s.Encode(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		var s Superblock
		_ = s.Decode(in)
		// No input comes past the checksum by chance: put the right one in.
		b := make([]byte, Unit)
		copy(b, in)
		sum(b)
		if s.Decode(b) != nil {
			return
		}
		if g, err := NewGeometry(s.Size); err != nil || g != s.Geometry || s.ExtentStart(s.Extents) > s.Size {
			t.Errorf("accepted as divided: %+v, %v", s.Geometry, err)
		}
		again := make([]byte, Unit)
		s.Encode(again)
		var twice Superblock
		if twice.Decode(again) != nil || twice != s {
			t.Error("what was accepted does not come back")
		}
	})
}

func FuzzSlot(f *testing.F) {
	s := Slot{Extent: 9, Replica: 2, Logical: 7, Epoch: 5, Blocks: new(Blocks)}
	s.Blocks.Set(3, 11)
	b := make([]byte, Unit)
	s.Encode(b, 77)
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		s := Slot{Blocks: new(Blocks)}
		b := make([]byte, Unit)
		copy(b, in)
		sum(b)
		if s.Decode(in, 77, 9) != nil && s.Decode(b, 77, 9) != nil {
			return
		}
		again := make([]byte, Unit)
		s.Encode(again, 77)
		twice := Slot{Blocks: new(Blocks)}
		err := twice.Decode(again, 77, 9)
		if diff := cmp.Diff(s, twice); err != nil || diff != "" {
			t.Error("what was accepted does not come back", err, diff)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	g := sampleSuperblock(f).Geometry
	c := sampleCheckpoint(g)
	f.Add(c.Encode(nil, 77), uint32(0))
	f.Fuzz(func(t *testing.T, in []byte, crc uint32) {
		var c Checkpoint
		_ = c.Decode(in, g, 77)
		// Past the checksum, too, nothing may panic: put the right one in.
		_, padded, err := CheckpointHead(in, g, 77)
		if err != nil || padded > int64(len(in)) || crc%2 != 0 {
			return
		}
		le := binary.LittleEndian
		le.PutUint32(in[36:], CRC(in[:36])^CRC(in[40:le.Uint32(in[32:])]))
		if c.Decode(in, g, 77) != nil {
			return
		}
		var twice Checkpoint
		err = twice.Decode(c.Encode(nil, 77), g, 77)
		if diff := cmp.Diff(c, twice); err != nil || diff != "" {
			t.Error("what was accepted does not come back", err, diff)
		}
	})
}
