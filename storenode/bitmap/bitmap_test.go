package bitmap_test

import (
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/bitmap"
)

// TestRunsAndRangesAreThoseOfTheBlocks compares with a slice of what is in the set.
func TestRunsAndRangesAreThoseOfTheBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var b bitmap.Bitmap
		var in [bitmap.Blocks]bool
		for range r.IntN(6) {
			from := r.IntN(bitmap.Blocks)
			for i := from; i < min(from+1+r.IntN(100), bitmap.Blocks); i++ {
				b.Set(i)
				in[i] = true
			}
		}
		for i := range bitmap.Blocks {
			end := i + 1
			for end < bitmap.Blocks && in[end] == in[i] {
				end++
			}
			if b.Has(i) != in[i] || b.Run(i) != end {
				t.Fatalf("block %d of %v: has %v, run to %d, want %v, %d", i, b, b.Has(i), b.Run(i), in[i], end)
			}
			to, found := i+r.IntN(bitmap.Blocks+1-i), false
			for _, has := range in[i:to] {
				found = found || has
			}
			if b.Any(i, to) != found {
				t.Fatalf("any of [%d, %d) of %v: %v", i, to, b, !found)
			}
		}
	}
}
