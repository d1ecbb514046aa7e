// Package fuse exports a Backend as the only file of a FUSE file system of its own, read straight from /dev/fuse.
//
// It exists to put a loop device on that file, so it knows only what one file needs: everything is a file named
// "volume" of fixed size, opened for direct I/O. The kernel then sends each block request as one READ or WRITE of up
// to 1 MiB, many at a time, in any order.
//
// # A request
//
// A reader posts two pieces of memory to the kernel in one readv: 80 bytes for the two headers of a WRITE and a buffer
// for its payload, which so begins at the start of a page-aligned buffer. A large payload goes to the Backend in that
// very buffer. A small one (copyLimit) is copied into a buffer of its size, because otherwise 4 KiB in flight would
// hold 1 MiB of memory, and the copy is a few percent of the cost of the request.
//
//	readv ─ decode ─ slot ─ Backend.Submit ┈┈ RequestDone ─ writev(header, data) ─ slot free
//	  └────── until nothing waits, then Backend.Kick
//
// Having read one request the reader takes more without waiting (a second, non-blocking descriptor) and kicks the
// Backend when there are none: batches form under load, while a lone request pays one failed read.
//
// # Invariants
//
//   - Each request that wants an answer gets exactly one, on the descriptor that read it.
//   - Not more than slots requests are in flight; readers stop reading, and the kernel queues, while all are taken.
//   - What the kernel says is checked like any input: sizes, alignment, bounds; a bad one is answered EINVAL.
//
// # Concurrency
//
// Each reader is a goroutine on a locked thread with descriptors of its own (FUSE_DEV_IOC_CLONE), so that the kernel
// wakes a thread that has nothing else to do. Completions answer from the goroutine that brings them.
//
// # Failure
//
// When the process ends and nobody else has its descriptors, the kernel ends the file system: requests in flight and
// later ones fail with EIO. If they are kept open, all of them, requests wait for Resume in another process. A request
// that is being read or answered at that moment survives if the memory of that call is there, so landing buffers are
// populated before use, and answers are made of memory that was written to.
//
// A read that fails for a reason that we do not know is told in the log, and reading goes on: an Export without a
// reader would be a device that hangs.
//
// Close unmounts, waits for what is in flight and for the readers.
package fuse
