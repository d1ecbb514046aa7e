package wire

import (
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
)

func TestTheSumOfAPayloadFollowsFromThoseOfItsBlocks(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	for blocks := range 40 {
		b := make([]byte, blocks*ident.BlockSize)
		for i := range b {
			b[i] = byte(chance.Uint32())
		}
		sums := make([]uint32, blocks)
		SumBlocks(b, sums)
		if got, want := CRCOfBlocks(sums), CRC(b); got != want {
			t.Errorf("%d blocks: %#x, want %#x", blocks, got, want)
		}
	}
}
