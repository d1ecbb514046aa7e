package extent

import (
	"slices"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
)

// TestTheTailKeepsWhatANewPrimaryNeeds however many pieces a claim copies, and however often that is told again.
func TestTheTailKeepsWhatANewPrimaryNeeds(t *testing.T) {
	const mib = 1 << 20
	r := &Replica{Size: 4 << 30}
	r.remember(5, 1, 0, mib)
	r.remember(9, 1, 2<<30, 4096)
	for range 2 { // an interrupted claim, and the next one, in another Epoch
		for i := range int64(1024) {
			piece := i ^ 1 // not quite in order
			r.remember(9, ident.Epoch(2+i%2), piece*mib, mib)
		}
	}
	covered := func(seq ident.Seq, from, to int64) bool {
		return slices.ContainsFunc(r.Tail(nil), func(e layout.Tail) bool {
			return e.Seq == seq && e.Offset <= from && to <= e.Offset+int64(e.Length)
		})
	}
	if n := len(r.Tail(nil)); n > 4 {
		t.Errorf("%d entries", n)
	}
	if !covered(5, 0, mib) || !covered(9, 2<<30, 2<<30+4096) {
		t.Errorf("a write is forgotten: %+v", r.Tail(nil))
	}
	for i := range int64(1024) {
		if !covered(9, i*mib, (i+1)*mib) {
			t.Fatalf("piece %d is forgotten: %+v", i, r.Tail(nil))
		}
	}
}

func TestAnEntryAbsorbsOnlyWhatItTouches(t *testing.T) {
	at := func(seq ident.Seq, offset int64, length uint32) layout.Tail {
		return layout.Tail{Seq: seq, Epoch: 1, Offset: offset, Length: length}
	}
	for name, c := range map[string]struct {
		other layout.Tail
		want  layout.Tail
		ok    bool
	}{
		"the same":         {at(7, 100, 10), at(7, 100, 10), true},
		"a part":           {at(7, 102, 3), at(7, 100, 10), true},
		"more":             {at(7, 90, 40), at(7, 90, 40), true},
		"behind":           {at(7, 110, 5), at(7, 100, 15), true},
		"before":           {at(7, 95, 5), at(7, 95, 15), true},
		"a gap":            {at(7, 111, 5), at(7, 100, 10), false},
		"another write":    {at(8, 100, 10), at(7, 100, 10), false},
		"too long for one": {at(7, 110, 1<<32-1), at(7, 100, 10), false},
	} {
		entry := at(7, 100, 10)
		if ok := absorb(&entry, &c.other); ok != c.ok || entry != c.want {
			t.Errorf("%s: %v, %+v", name, ok, entry)
		}
	}
}
