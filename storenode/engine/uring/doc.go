// Package uring drives a block device or a file by io_uring, with O_DIRECT.
//
// One ring per Device. Submit fills a submission entry; Kick hands all of them to the kernel with one system call. The
// loop that waits for connections waits for the ring too (package poll): when something has completed it takes the
// monitor, delivers everything that is there, and lets go; what completed meanwhile is delivered by the same visit.
// Idle costs nothing. The kernel ends a request on the thread that submitted it, so most cost no switch of threads.
//
// Discards of a file are holes, punched by the ring. Those of a block device have no operation of the ring that all
// kernels know, and go their own way, on a thread that never submits (discard.go). So does the opening (package apart).
//
// Invariants: at most maxInFlight requests are in the kernel, the rest wait in a list; so neither queue can overflow.
// Submission and delivery are guarded by the Owner's monitor. Requests, and so their buffers, are kept in a table until
// the kernel is done with them.
//
// # Failure
//
// A short transfer is io.ErrUnexpectedEOF, an error of the kernel is wrapped with operation and offset. If
// the kernel refuses a submission as a whole, the process ends: no request could be answered truthfully.
package uring
