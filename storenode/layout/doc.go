// Package layout is the format of a Device: this comment is its specification.
//
// Everything is little endian and in units of 4 KiB, so that each unit is one write of the Device. From the start:
//
//	0            Superblock, first copy
//	512 KiB      Superblock, second copy
//	1 MiB        Journal: a ring of 4 KiB frames (package journal)
//	…            two Checkpoint areas, written in turn
//	…            slots: two of 4 KiB for each Extent, written in turn
//	…            Extents of 1 MiB, to the end
//
// # Superblock
//
//	0 magic "SHALEDEV"  8 version  12 extent size  16 device UUID  32 salt  40 device size  48 journal size
//	56 checkpoint area size  64 extents  68 most replicas  72 length of pool name, pool name …  4092 CRC32C
//
// Written once, by Format. The salt is random: it is part of every frame, slot and Checkpoint, so that what an
// earlier life of the Device left behind is never taken for ours. Either copy is enough to open the Device; a bad one
// is written anew from the good one, unless somebody else's signature says that the Device was taken (Taken). Two bad
// ones are refused, never overwritten.
//
// # Slot
//
//	0 salt  8 extent  12 replica handle  16 logical extent  20 0  24 epoch  32 written-bitmap (32 bytes)
//	64 checksum of each of the 256 Blocks  …  4092 CRC32C
//
// Of an Extent's two slots the newest Checkpoint names one; the other is free to be written.
//
// # Checkpoint
//
//	0 magic "SHALECKP"  8 salt  16 generation  24 first frame to replay  32 length  36 CRC32C of 0…36 and of 40…
//	40 run of the machine  48 1 if nothing came after it  49 1 if power was lost before this run
//	4096 two bits per Extent: 0 free, 1 first slot, 2 second slot; then the Replicas
//
// The one with the higher generation and a right checksum is in force. Neither being right on a Device that was ever
// checkpointed is corruption. See the decision on the disk format, docs/adr, for why it is so.
//
// # Versions
//
// 1: the first. A Device of a higher version is refused by name.
//
// Pure: no I/O (Probe reads through what it is given), clock, goroutine or lock.
package layout
