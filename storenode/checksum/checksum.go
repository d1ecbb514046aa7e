package checksum

import (
	"encoding/binary"
	"hash/crc32"
	"unsafe"

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
	if len(sums) == 0 {
		return 0
	}
	if littleEndian {
		// As they lie in memory. A copy would be allocated each time: the table's function is known only at run time.
		encoded := unsafe.Slice((*byte)(unsafe.Pointer(&sums[0])), 4*len(sums))
		return crc32.Update(0, castagnoli, encoded)
	}
	return payloadElsewhere(sums)
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// payloadElsewhere is Payload on a machine that is not little endian.
func payloadElsewhere(sums []uint32) uint32 {
	encoded := make([]byte, 0, 4*len(sums))
	for _, sum := range sums {
		encoded = binary.LittleEndian.AppendUint32(encoded, sum)
	}
	return crc32.Update(0, castagnoli, encoded)
}
