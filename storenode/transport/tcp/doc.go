// Package tcp carries frames over TCP.
//
// A loop of package poll reads, and hands on every frame that is complete, on one goroutine for many connections; what
// has come of the next one waits in the connection. Small payloads are read into one large buffer together with the
// frames around them and copied; large ones are read to where they belong. Idle follows when nothing more has come.
//
// A sender's Flush writes everything queued with one system call on the sender's own goroutine; while one Flush is at
// work others return at once, and what they queued goes with its next call. So batches grow with load and a single
// frame is never delayed. What the network does not take at once is sent by the loop, and so is what is more than one
// turn's worth.
//
// Connections within one machine control congestion in the plainest way, whatever the host's default is: a client on
// the node of its Primary meets no congestion, but would meet the timers by which BBR paces. Others keep the default.
//
// # Invariants
//
// The descriptor stays open as long as the loop or a Flush uses it: both are counted, and the last to go closes it and
// has Closed called. One at a time has the turn to send; it passes to the loop and ends, but is never had twice.
//
// # Limits
//
// While the Pool is exhausted a connection that needs memory is not read, which stops the peer by TCP's own window. The
// send queue is bounded in bytes, by 64 MiB or what the Pool allows. A peer that takes nothing for stallTimeout, or
// stops within a frame, is closed, but not for what the loop has not come to or has no memory for. The first frame must
// be small and come within helloTimeout; the number of connections is bounded. What is read goes into memory of the
// loop, so a connection itself takes a few KiB, whatever it carries.
//
// # Failure
//
// Bytes that are no frame close that connection, are counted in Metrics.BadFrames and logged at most once a second.
// Nothing else is touched.
package tcp
