// Package journal is the format of a Device's write-ahead log: this comment is its specification.
//
// The Journal is a ring of frames of 4 KiB. Frame number n, counted from 1 for ever, lies at place n modulo the ring's
// length. Little endian:
//
//	0 magic "SHJF"  4 bytes used by records u16  6 settled u16  8 salt  16 frame number  24 flushed  32 boot
//	40 records …  4092 CRC32C
//
// A frame counts only if its checksum, salt and number are right and all frames before it count: so the first gap
// ends the Journal. But if a frame behind it says that what is missing was durable, or settled in this run of the
// machine, the Device has damaged it, and what it said is not taken back in silence. Behind a gap that a loss of power
// left, there may be whole frames: so who goes on after a recovery numbers a whole lap further, and a frame of an
// earlier lap or life of the Device is never taken. "flushed" is the highest frame known to be on the medium, with all
// data it speaks of, when this one was written: what it says needs no doubt after a crash. "settled" is by how much the
// highest frame is less than this one whose data the Device has taken, 0 if that is not known: what it says needs no
// doubt if only the process ended. "boot" names the run of the machine: the same one after a crash means that only the
// process ended, and that nothing which was completed can be missing.
//
// # Records
//
// A record is one byte of type and fields; it never crosses a frame.
//
//	write      1  blocks u16  first u16  replica u32  logical u32  extent u32  seq u64  epoch u64  checksum per block
//	clear      2  as write, without checksums: the Blocks are as never written
//	create     3  replica u32  volume 16  shard u32  replica id u32  size u64
//	delete     4  replica u32
//	record     5  replica u32  length u16  encoded membership record
//	generation 6  replica u32  generation u64
//	note       7  replica u32  seq u64  epoch u64  offset u64  length u32: a write or clear that touched nothing
//	write data 8  as write; the Blocks themselves lie behind the frame, see below
//	sound      9  replica u32: it misses nothing any more that a loss of power may have taken
//
// # Data
//
// The Blocks that a frame's records carry lie in the units right behind it, in the order of the records, and take
// numbers like frames do. They have no header: each must match the checksum in its record, or the frame does not
// count, and the Journal ends before it; if it was durable, it counts, and the Block is damaged. Only small overwrites
// are carried; other data is written to its place: at the same time as the frame where nothing was written before,
// after the frame where it replaces something. See the decisions on the disk format and on carried writes.
//
// Pure: no I/O, clock, goroutine or lock.
package journal
