// Package client is the consumer's side of a Volume: it opens it at the storenodes and carries reads and writes to the
// Primary of each Shard, through failovers, without ever losing or doubling one.
//
// # The life of a Request
//
// Submit cuts a Request at the borders of Shards into parts. A part gets a number, dense within (session, Shard), and
// is sent to the Shard's Primary; what finds the Shard's window full waits in its queue without a number. It keeps its
// number until its outcome is known, however often and to whomever it is sent again: storenodes recognise it and apply
// it once.
//
//	Submit ─ part ─ queue ─ numbered ─┬─ sent ── outcome ─ last part: RequestDone
//	                        ▲         │    │
//	                        └─ unsent ┴────┘ connection lost, redirected, busy
//
// A Request ends by its outcome, by Close, or because the attachment is fenced; never by time alone: a block device
// must not report an error for a failover. The one exception are changes of a Shard whose Primary answers that fewer
// Replicas are in sync than the Volume asks for (minInSync): after two minutes of such answers they fail.
//
// FLUSH goes to each Shard that has acknowledged a change since the last acknowledged FLUSH began, and the first one to
// all Shards, because an earlier session may have left something.
//
// # Finding the Primary
//
// Each answer that redirects carries the Record that is in force. While nobody redirects (connection refused, no
// answer, no Primary) the client asks the other storenodes of the Shard, and the addresses it was opened with, in turn
// for the map. Only a higher Epoch replaces a Record; the same Epoch may change addresses. A Primary that says nothing
// is asked too, and if it still says nothing, all other Replicas of the Shard are told: one of them may take over.
//
// # Invariants
//
//   - A session's number is never used for a second request, and a session id never for a second Volume.
//   - What is sent names the lowest number still waited for; at most SessionWindow numbers above it are in use.
//   - A Request is completed exactly once, after the last of its parts.
//   - A change ends by the connection that it was last sent by, so no copy of it is behind a later change.
//   - Shard.written ≠ Shard.flushed if an acknowledged change may not survive power loss.
//
// # Memory
//
// Frontends get at most half of the Pool (Volume.Buffer), copies of parts that are cut out of a Request a quarter; the
// rest is for what arrives. So a reader of a connection waits for memory only until others have handed theirs on, and
// never for its own connection.
//
// # Concurrency
//
// All state of a Volume is under Volume.mu. Order: Volume.mu, then what a connection's Send and a Pool lock. Outside of
// it happen: RequestDone, Flush of connections, dialing. There is no goroutine, channel or allocation per I/O: Submit
// sends on the caller's goroutine, connections' readers complete in batches. Time is counted in ticks of one timer,
// which runs only while Requests are submitted or wait, or connections are open that will not be needed for long.
//
// # Failure
//
// Nothing survives the process. Open fails with ErrUnknownVolume, ErrFenced or ErrUnreachable. A Request fails with
// ErrNoSpace, ErrIO, ErrCorruption, ErrInvalid, ErrTooFew, ErrFenced or ErrClosed.
package client
