// Package checksum is how a Block is told from another: at rest, in digests of Extents, and on the wire.
//
// # Why no CRC
//
// A CRC is linear. A Block that ends with its own CRC has, as a whole, the same CRC whatever it holds; so does one
// whose last words were chosen. Databases and filesystems write such Blocks (the directory blocks of ext4 end with a
// CRC32C), and those of all versions looked alike to a store that compared CRC32C: recovery and Rebuild took the old
// for the new. A fault test of real processes found it. XXH64 (Collet, github.com/Cyan4973/xxHash) mixes by
// multiplication, has no such residue, and costs as little: 0.3 µs for a Block.
//
// Journal frames, superblocks and headers are ours from end to end, and keep CRC32C.
//
// Pure: no I/O, clock, goroutine or lock.
package checksum
