package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// blockSize of all I/O, in bytes.
const blockSize = 4096

// Blocks end with a checksum of what is before it, by default IEEE's CRC32. With CRC32C, the checksum that Shale itself
// uses, the CRC32C of the whole Block is the same number for every content: then a Block that holds another version
// passes for right wherever only checksums are compared. Applications write such Blocks too.
var (
	ieee       = crc32.IEEETable
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// fill makes the bytes of a Block: number, version, bytes drawn from the two, checksum by a polynomial.
func fill(b []byte, number, version uint32, polynomial *crc32.Table) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], number)
	le.PutUint32(b[4:], version)
	x := uint64(number)<<32 | uint64(version) | 1<<63
	for i := 8; i < blockSize-8; i += 8 {
		x ^= x << 13 // xorshift64, Marsaglia 2003
		x ^= x >> 7
		x ^= x << 17
		le.PutUint64(b[i:], x)
	}
	le.PutUint32(b[blockSize-8:], ^number)
	le.PutUint32(b[blockSize-4:], crc32.Checksum(b[:blockSize-4], polynomial))
}

// versionOf is the version that a Block holds; 0 for one never written. An error says that it is none of ours.
func versionOf(b []byte, number uint32) (uint32, error) {
	le := binary.LittleEndian
	if isZero(b) {
		return 0, nil
	}
	body, sum := b[:blockSize-4], le.Uint32(b[blockSize-4:])
	if crc32.Checksum(body, ieee) != sum && crc32.Checksum(body, castagnoli) != sum {
		return 0, fmt.Errorf("block %d is torn or foreign: its checksum differs", number)
	}
	if found := le.Uint32(b); found != number {
		return 0, fmt.Errorf("block %d holds block %d", number, found)
	}
	return le.Uint32(b[4:]), nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
