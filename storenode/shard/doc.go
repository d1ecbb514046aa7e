// Package shard serves the Shards of one storenode: a Host drives one replication.Machine for each local Replica,
// between its connections and the Store of the Replica's Device.
//
// The agent (or whoever stands for the keeper of membership records) and the Host meet by Manager, what is asked of
// the Host, and Authority, what the Host asks. A Record changes only through Authority.Propose, by compare-and-swap.
//
// # The path of a write
//
// A connection's reader has a frame (link.go). It enters the Monitor of the Device that the frame's Replica lies on,
// hands the frame to the Machine, and stays inside while frames for the same Device follow; at the end of the batch
// it leaves. Leaving (monitor.go) is where things happen: each touched Machine says what is Ready, Ops go to the
// Store (operation.go), messages to connections' queues (replica.go), the Store is kicked once and each connection
// flushed once. The loop does the same with completions (package poll). No goroutine, channel or allocation per I/O.
//
// # Connections and leases
//
// Each storenode dials each other one that it shares a Shard with, so there are two connections a pair: requests go
// by the one that was dialed, answers return by the one that the request came by (peer.go). Hello comes first each
// way and names the process, so that a restart is noticed; a newer connection closes the older one.
//
// Leases belong to pairs of storenodes, not to Shards (leases.go). The Primary's side asks, the answer is the promise
// to take no other Primary for Grace. When a Machine adopts a Record that moves the Primary away, the former one is
// told on the connection by which its heartbeats are answered, before any later answer; a new connection begins with
// the Records of all shared Shards. So a former Primary stops serving a Shard before its lease is renewed once more.
//
// # Invariants
//
//   - No promise is made between a Machine's adopting a Record and its being told to the former Primary.
//   - A Replica is made, and flushed, before it is reported; one that by its Record holds data is never made anew.
//   - What arrives on a connection is checked before a Machine or Store sees it: it may close the connection, no more.
//   - Of the memory that Devices leave clients get at most half, so that two storenodes never wait for each other's;
//     and no Device holds so much that the others have none, however long it hangs (monitor.go).
//
// # Concurrency
//
// Order of locks: Monitor, then Host.mu, then peer.mu. No Monitor is entered inside another lock or Monitor, and
// nothing blocks inside. The Host starts no goroutine and reads no clock but Options.Clock: all is events, so that a
// simulation can run it. Authority, Dialer and connections must not call back from within a call.
//
// # Failure
//
// A failed Store fails the Ops of its Replicas, whose Machines then hand over or are evicted; their State is
// StateFailed. A lost connection is told to the Machines concerned and dialed again, at once if it had lived.
package shard
