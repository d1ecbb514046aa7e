package checksum

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
)

// TestBlocksThatEndWithTheirOwnCRCDiffer is what CRC32C at rest did not give, in whichever half the change is.
func TestBlocksThatEndWithTheirOwnCRCDiffer(t *testing.T) {
	for _, table := range []*crc32.Table{crc32.IEEETable, castagnoli} {
		seen := map[uint32]bool{}
		for version := range 200 {
			b := make([]byte, ident.BlockSize)
			binary.LittleEndian.PutUint64(b[version%2*3000:], uint64(version))
			binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], table))
			if seen[Block(b)] {
				t.Errorf("version %d looks like an earlier one", version)
			}
			seen[Block(b)] = true
		}
	}
}

func TestThePayloadsChecksumKnowsEachBlockAndTheirOrder(t *testing.T) {
	sums := make([]uint32, 256)
	for i := range sums {
		sums[i] = uint32(i * 7)
	}
	was := Payload(sums)
	for i := range sums {
		sums[i] ^= 1 << (i % 32)
		if Payload(sums) == was {
			t.Errorf("block %d does not count", i)
		}
		sums[i] ^= 1 << (i % 32)
	}
	sums[0], sums[255] = sums[255], sums[0]
	if Payload(sums) == was {
		t.Error("the order does not count")
	}
}

func TestThePayloadsChecksumIsTheSameOnAllMachines(t *testing.T) {
	for _, n := range []int{0, 1, 2, 63, 64, 65, 256} {
		sums := make([]uint32, n)
		for i := range sums {
			sums[i] = 0x01020304 * uint32(i+1)
		}
		if got, want := Payload(sums), payloadElsewhere(sums); got != want {
			t.Errorf("%d blocks: %08x, elsewhere %08x", n, got, want)
		}
	}
}

func TestThePayloadsChecksumAllocatesNothing(t *testing.T) {
	sums := make([]uint32, 256)
	if n := testing.AllocsPerRun(100, func() { Payload(sums) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBlock(b *testing.B) {
	data := make([]byte, ident.BlockSize)
	b.SetBytes(ident.BlockSize)
	for b.Loop() {
		Block(data)
	}
}
