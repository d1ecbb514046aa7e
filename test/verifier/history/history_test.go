package history

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestWhichVersionsABlockMayHold(t *testing.T) {
	sent := func(v uint32) Entry { return Entry{Kind: Sent, Version: v} }
	acknowledged := func(v uint32) Entry { return Entry{Kind: Acknowledged, Version: v} }
	failed := func(v uint32) Entry { return Entry{Kind: Failed, Version: v} }
	seen := func(v, since uint32) Entry { return Entry{Kind: Seen, Version: v, Since: since} }
	opened := Entry{Kind: Opened}
	for name, c := range map[string]struct {
		log  []Entry
		want []uint32
	}{
		"a write in flight may have happened": {
			[]Entry{sent(1)}, []uint32{0, 1},
		},
		"an acknowledged write has happened": {
			[]Entry{sent(1), acknowledged(1)}, []uint32{1},
		},
		"a failed write may have happened": {
			[]Entry{sent(1), failed(1)}, []uint32{0, 1},
		},
		"a later write hides a failed one": {
			[]Entry{sent(1), failed(1), sent(2), acknowledged(2)}, []uint32{2},
		},
		"writes that overlap may end in any order": {
			[]Entry{sent(1), sent(2), acknowledged(2), acknowledged(1)}, []uint32{1, 2},
		},
		"a write that overlaps both keeps both out": {
			[]Entry{sent(1), acknowledged(1), sent(2), sent(3), acknowledged(3), acknowledged(2)}, []uint32{2, 3},
		},
		"one in flight outlives a later one": {
			[]Entry{sent(1), sent(2), acknowledged(2), sent(3), acknowledged(3)}, []uint32{1, 3},
		},
		"what was read is what is there": {
			[]Entry{sent(1), sent(2), acknowledged(1), acknowledged(2), seen(2, 5)}, []uint32{2},
		},
		"a read that began earlier tells nothing": {
			[]Entry{sent(1), sent(2), acknowledged(1), acknowledged(2), seen(2, 3)}, []uint32{1, 2},
		},
		"a read does not end a write in flight": {
			[]Entry{sent(1), seen(0, 2)}, []uint32{0, 1},
		},
		"a new run ends it": {
			[]Entry{sent(1), opened, seen(0, 3)}, []uint32{0},
		},
		"a new run lets the old one have happened": {
			[]Entry{sent(1), opened}, []uint32{0, 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := New()
			for _, e := range c.log {
				if err := h.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
			if got := h.Possible(0); !slices.Equal(got, c.want) {
				t.Errorf("possible are %v, want %v", got, c.want)
			}
		})
	}
}

func TestALogOfALossIsRefused(t *testing.T) {
	h := New()
	for _, e := range []Entry{{Kind: Sent, Version: 1}, {Kind: Acknowledged, Version: 1}} {
		if err := h.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Apply(Entry{Kind: Seen, Version: 0, Since: h.Position()}); err == nil {
		t.Error("a Block that lost its write was taken for right")
	}
}

func TestALogSurvivesTheEndOfItsWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log := Entry{Kind: Sent, Block: 7, Version: 1}.Append(nil)
	log = Entry{Kind: Acknowledged, Block: 7, Version: 1}.Append(log)
	half := Entry{Kind: Sent, Block: 7, Version: 2}.Append(nil)[:5]
	if err := os.WriteFile(path, append(log, half...), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Read(path)
	if err != nil || !slices.Equal(h.Possible(7), []uint32{1}) || h.Next(7) != 2 || h.Position() != 3 {
		t.Errorf("read %v, next %d, at %d, %v", h.Possible(7), h.Next(7), h.Position(), err)
	}
}
