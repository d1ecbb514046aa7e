package checksum

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/cespare/xxhash/v2"

	"github.com/shale-storage/shale/storenode/ident"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Block is the checksum of a Block at rest.
func Block(b []byte) uint32 { return uint32(xxhash.Sum64(b)) }

// Whole is a Block's checksum in full: Block is its lower half.
func Whole(b []byte) uint64 { return xxhash.Sum64(b) }

// Blocks puts the checksum of each Block of b, a multiple of the Block size, into sums.
func Blocks(b []byte, sums []uint32) {
	for i := range len(b) / ident.BlockSize {
		sums[i] = Block(b[i*ident.BlockSize : (i+1)*ident.BlockSize])
	}
}

// Payload is the checksum of a frame's payload of whole Blocks, from those of its Blocks: their CRC32C, little endian.
// So the bytes are summed once on each node, for the frame that came, the Store, and the frames that go on.
func Payload(sums []uint32) uint32 {
	var crc uint32
	var encoded [64 * 4]byte
	for len(sums) > 0 {
		n := min(len(sums), len(encoded)/4)
		for i, sum := range sums[:n] {
			binary.LittleEndian.PutUint32(encoded[4*i:], sum)
		}
		crc = crc32.Update(crc, castagnoli, encoded[:4*n])
		sums = sums[n:]
	}
	return crc
}
