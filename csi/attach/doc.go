// Package attach says what turns a Volume into a block device on this node, and what a Volume must offer for it.
//
// A Frontend (loop today; ublk and nbd fit the same shape) makes the kernel's requests arrive as Requests at a
// Backend. A Backend is the asynchronous side of a Volume: package initiator fits the volume client onto it, tests use
// memory.
//
// # The life of a Request
//
// The frontend owns Requests and uses each again and again. Submit lends one to the Backend, which gives it back by
// calling Done.RequestDone exactly once, from any goroutine, possibly before Submit returns. Between Submit and that
// call the frontend touches neither the Request nor the bytes of its Buffer. A Backend may hold a Request back until
// Kick: whoever submits calls Kick when nothing more is at hand, so that a batch costs few system calls and a single
// request waits for nothing.
//
// # Concurrency
//
// Submit, Kick and Buffer are called from several goroutines at once. Requests which overlap in place and time have no
// order; the block layer above never asks for one.
//
// # Failure
//
// A failed Request carries its error in Err and reaches the application as EIO (ENOSPC for ErrNoSpace). A Backend
// that has lost its Volume for good (fenced) fails each Request quickly. One whose storenodes are away for now keeps
// them: a failover must not reach the application as an error.
package attach
