// Package engine is the one door to Devices: asynchronous reads, writes, flushes and discards of aligned blocks.
//
// An engine does not know what the bytes mean, keeps no order between requests in flight and retries nothing. Its
// implementations: uring (block devices and files by io_uring), mem (a memory device whose crash keeps only what was
// flushed, and which does by chance what is allowed here and rarely seen) and fault (errors and delays by predicate
// around another). All pass the conformance suite in enginetest.
//
// # Concurrency
//
// A Device has one Owner, a monitor: everything that touches the Device, and the state built on it, happens between
// the Owner's Enter and Leave. Submit and Kick are called inside; completions are delivered inside, by the engine,
// which calls Enter itself, hands over all completions it has gathered, and calls Leave. A request's state machine
// thus runs to completion on whichever goroutine has news for it (the loop's, for connections and rings), with no
// hand-over between goroutines, which costs up to 40 % of a ring's throughput.
//
// # Failure
//
// Each submitted Request is completed exactly once, with Err set when it failed; a short transfer is an error. After
// Close, requests in flight are still completed, new ones complete with ErrClosed. A write that failed or was in flight
// at a crash may be on the Device wholly, partly (in units of 512 bytes) or not at all; a completed write survives the
// end of the process, and power loss once a Flush submitted after its completion has completed. Until then a loss of
// power may also leave any of its blocks (Info.BlockSize) such that reads of them fail, until they are written again.
//
// # Time
//
// A request has its effect at any moment between its submission and its completion, each of its bytes at another:
// reads may see a write that has not completed, and a discard may hit what was written after it was submitted.
package engine

import "errors"

// Op is what a Request asks for.
type Op uint8

// The operations of a Device.
const (
	// OpRead fills Buf from Offset.
	OpRead Op = iota + 1
	// OpWrite puts Buf at Offset.
	OpWrite
	// OpFlush makes every write completed before its submission survive power loss. What was in flight then, or was
	// submitted later, may survive or not.
	OpFlush
	// OpDiscard tells the Device that Length bytes at Offset are not needed. What they read as is undefined, and may be
	// another thing each time, also after power loss, until they are written again; but what is written after its
	// completion it leaves alone. It fails with errors.ErrUnsupported where the medium knows no discards.
	OpDiscard
)

// ErrClosed completes requests submitted after Close.
var ErrClosed = errors.New("device is closed")

// Completer is told of the end of a Request, inside the Owner's monitor. It may Submit; it must not block.
type Completer interface {
	Complete(r *Request)
}

// Request is one operation. It belongs to the engine from Submit until Complete, and may be reused afterwards, so that
// the data path allocates nothing: embed it in the structure of the larger operation.
type Request struct {
	Op Op
	// Offset in bytes, a multiple of Info.BlockSize.
	Offset int64
	// Buf is read into or written from: aligned to 4096 in memory, its length a multiple of Info.BlockSize.
	Buf []byte
	// Length in bytes, for OpDiscard alone.
	Length int64
	// Done is told of the completion.
	Done Completer
	// Err is the outcome, set before Complete.
	Err error
	// Tag is for the caller: an engine does not read it.
	Tag uint64

	// Next links requests in intrusive queues of whoever owns the request at the moment.
	Next *Request
}

// Owner is the monitor of a Device: Enter takes it, Leave ends what was begun inside (kicks the Device, flushes the
// connections that were written to) and gives it back.
type Owner interface {
	Enter()
	Leave()
}

// Info describes an open Device.
type Info struct {
	// Path it was opened by.
	Path string
	// Size in bytes, a multiple of BlockSize.
	Size int64
	// BlockSize is the smallest unit of I/O, in bytes: 512 or 4096.
	BlockSize int
	// Rotational, Serial, Model: as the kernel reports them; empty for files.
	Rotational bool
	Serial     string
	Model      string
	// Discard reports whether OpDiscard may reach the medium: false where the kernel says that it never does.
	Discard bool
}

// Device is an open Device.
type Device interface {
	Info() Info
	// Submit queues r; it reaches the Device at the next Kick at the latest. Never blocks, has no bound of its own:
	// callers bound what they have in flight. Inside the monitor.
	Submit(r *Request)
	// Kick hands all queued requests to the Device, in as few system calls as there can be. Inside the monitor.
	Kick()
	// Close waits for requests in flight and releases the Device. Outside the monitor.
	Close() error
}
