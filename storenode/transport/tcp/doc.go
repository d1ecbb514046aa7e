// Package tcp carries frames over TCP.
//
// A connection has one goroutine that reads and, only while the network does not take what is sent, one that writes.
// Reading takes what has arrived into one large buffer, hands on every complete frame, and says Idle before it may
// sleep. A sender's Flush writes everything queued with one system call on the sender's own goroutine; while one
// Flush is at work others return at once, and what they queued goes with its next call. So batches grow with load and
// a single frame is never delayed.
//
// Connections within one machine control congestion in the plainest way, whatever the host's default is: a client on
// the node of its Primary meets no congestion, but would meet the timers by which BBR paces. Others keep the default.
//
// # Limits
//
// A payload is copied once, from the read buffer into a Buffer of the Pool; while the Pool is exhausted the reader
// waits, which stops the peer by TCP's own window. The send queue is bounded in bytes; a peer that takes nothing for
// stallTimeout is closed. The first frame must come within helloTimeout, the number of connections is bounded.
//
// # Failure
//
// Bytes that are no frame close that connection, are counted in Metrics.BadFrames and logged at most once a second.
// Nothing else is touched.
package tcp
