// Package buffer gives the data path its memory: aligned, outside the Go heap, counted and bounded.
//
// A Buffer starts at a multiple of 4 KiB, so it fits O_DIRECT, rings and RDMA as it is. It comes from a Pool and goes
// back when its last reference is released. The Pool never grows past its limit: Get then answers nil, and the caller
// stops taking work until memory returns (back-pressure), instead of failing later.
//
// Concurrency: a Pool and the counting of a Buffer are safe from any goroutine; the bytes belong to whoever holds a
// reference, by the agreement of those who share it (written before it is shared, read after).
package buffer
