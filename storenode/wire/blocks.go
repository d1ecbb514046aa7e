package wire

import (
	"hash/crc32"

	"github.com/shale-storage/shale/storenode/ident"
)

// A payload is summed once, Block by Block, as the Store keeps it; the checksum of the whole follows from those of the
// Blocks without looking at the bytes again. The CRC of A followed by B is that of A followed by as many zeros, xor
// that of B; and "followed by a Block of zeros" is a linear map of 32 bits, here as four tables of bytes. After
// crc32_combine of zlib (Mark Adler).

// behind[i][v] is what the byte v at place i of a CRC becomes when a Block of zeros follows.
var behind = func() (tables [4][256]uint32) {
	step := crc32.MakeTable(crc32.Castagnoli)
	for place := range tables {
		for bit := range 8 {
			crc := uint32(1) << (8*place + bit)
			for range ident.BlockSize {
				crc = step[crc&0xff] ^ crc>>8
			}
			tables[place][1<<bit] = crc
		}
		for v := range tables[place] {
			low := v & -v
			tables[place][v] = tables[place][low] ^ tables[place][v&^low]
		}
	}
	return tables
}()

// SumBlocks puts the CRC of each Block of b, a multiple of the Block size, into sums.
func SumBlocks(b []byte, sums []uint32) {
	for i := range len(b) / ident.BlockSize {
		sums[i] = CRC(b[i*ident.BlockSize : (i+1)*ident.BlockSize])
	}
}

// CRCOfBlocks is the CRC of the Blocks with these CRCs, one behind the other.
func CRCOfBlocks(sums []uint32) uint32 {
	var crc uint32
	for _, sum := range sums {
		crc = behind[0][crc&0xff] ^ behind[1][crc>>8&0xff] ^ behind[2][crc>>16&0xff] ^ behind[3][crc>>24] ^ sum
	}
	return crc
}
