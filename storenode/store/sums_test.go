package store_test

import (
	"slices"
	"testing"

	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// What is read leaves with the checksums it was found with, so that what happens to it in memory is seen by whoever
// takes it.
func TestWhatIsReadCarriesItsChecksums(t *testing.T) {
	r := newRig(t, 64<<20)
	h := r.create(t, 0, 4<<20)
	r.mustWrite(t, h, 2*block, fill(20*block, 100))
	r.mustWrite(t, h, layout.ExtentSize-2*block, fill(4*block, 200)) // two Extents
	r.mustWrite(t, h, 5*block, fill(block, 300))                     // carried by the Journal
	if err := r.do(&store.IO{Op: store.OpDiscard, Replica: h, Offset: 9 * block, Length: 2 * block}); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string][2]int{
		"zeros before, a hole, zeros behind": {0, 40},
		"within":                             {3, 4},
		"one carried":                        {5, 1},
		"across a border":                    {250, 12},
		"an Extent that is not there":        {520, 8},
	} {
		buf := pool.Get(at[1] * block)
		for range 2 { // a Buffer that is read into again has other sums
			clear(buf.SumsRoom())
			err := r.do(&store.IO{
				Op: store.OpRead, Replica: h, Offset: int64(at[0]) * block, Length: at[1] * block, Buf: buf,
			})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := make([]uint32, at[1])
			checksum.Blocks(buf.Bytes(), want)
			if !slices.Equal(buf.Sums(), want) {
				t.Errorf("%s: sums %x, want %x", name, buf.Sums(), want)
			}
			r.mustWrite(t, h, 3*block, fill(4*block, 400))
		}
		buf.Release()
	}
}
