// Package buffer gives the data path its memory: aligned, outside the Go heap, counted and bounded.
//
// A Buffer starts at a multiple of 4 KiB, so it fits O_DIRECT, rings and RDMA as it is. It comes from a Pool and goes
// back when its last reference is released. The Pool never grows past its limit: Get then answers nil, and the caller
// stops taking work until memory returns (back-pressure), instead of failing later.
//
// Large Buffers lie in huge pages where the kernel has some (transparent_hugepage/enabled not "never"): what is written
// from them is pinned, mapped and sent to the Device as one piece.
//
// Whoever brings the bytes may leave the checksums of their 4 KiB parts with them, so that each hop and the Store need
// not sum them again; and what memory breaks on the way does not get a good checksum at the next hop.
//
// Concurrency: a Pool and the counting of a Buffer are safe from any goroutine; the bytes belong to whoever holds a
// reference, by the agreement of those who share it (written before it is shared, read after).
package buffer
