// Package extent is what a Device knows in memory: its Replicas, which Extent holds what, which Blocks are written with
// which checksum, what is free.
//
// Table.Apply carries out one Journal record. It is the only way the state changes, while the Device serves as when
// it recovers, so the two cannot differ. Records may be applied again to a state that has them already, wholly or in
// part (a Checkpoint is written while writes go on): a record that finds an Extent or a handle in other hands takes
// it away from there. What is taken is told again by later records, because it can only have come into those hands
// after them.
//
// # Invariants
//
// A Replica's map and the Extents' owners say the same. An Extent is free, or owned, or leaving (freed, and not yet
// discarded on the Device). Who was leaving when the process ended is not on the Device: after recovery all that is
// free is stale, which is to be discarded some time. Free Extents have no Blocks, and are not handed out before what
// freed them is in the Journal.
//
// # Memory
//
// Flat and outside the reach of the garbage collector's marking: per Extent of the Device 32 bytes; per allocated
// Extent about 1 KiB, in slabs; per gibibyte of a Replica in which something is written 4 KiB of map.
//
// Concurrency: none; the Device's monitor guards it. Pure but for memory.
package extent
