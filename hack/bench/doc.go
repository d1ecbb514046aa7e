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
package main
