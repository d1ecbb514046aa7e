// Command bench compares Shale with the disk below it, in one go on one machine: `make bench`.
//
// It starts three storenodes, each a process of its own with a Device that is a file on the disk to be measured, joins
// them over loopback TCP, and drives a Volume with three Replicas by the same client that an initiator uses. In turns
// with that it drives a file on the same disk directly, by the same io_uring engine and with the same load. Several
// rounds, medians; what disturbs the machine meanwhile disturbs both. At the end a line for each load:
//
//	NAME SHALE RAW RATIO
//
// in operations a second, and what they cost in CPU seconds for 10 000 operations, all processes together.
//
// Three copies on one disk cannot be faster than a third of it; what is missing beyond that is the price of the way.
//
// # What clients feel of a Rebuild
//
// With -rebuild no file is driven. Instead, round by round and load by load, one storenode is stopped and evicted, all
// of the Volume is overwritten, and the load runs while that storenode, started anew, is brought in sync; before, while
// it is away, and after that the same load runs for -time. At the end two lines for each load, medians of all rounds:
//
//	rebuild-p99-NAME DURING WITHOUT RATIO
//	rebuild-speed-NAME MB/s SECONDS
//
// p99 is in microseconds, as the client has it; package budget promises a RATIO of at most 2, which is that of each
// Rebuild to what was right before and after it. The time while a storenode is away also teaches budget what is usual:
// with a short -time it goes by what the overwriting was like. A Rebuild copies all of the Volume, -size-mib, and must
// be long enough for its p99 to mean something.
//
// This process keeps the membership records (keeper.go). Without -rebuild none may change, with it only the one
// storenode's Replicas may leave and come back; anything else ends the program, as the figures would be worthless.
package main
