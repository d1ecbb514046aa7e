// Package holder keeps open files for a process that may die: the descriptors of /dev/fuse without which the kernel
// would end an Export, and beside them a few bytes that say what they are for.
//
// It is the part of the initiator that must not die, so it does nothing else: no Volume, no I/O, no Kubernetes, no
// state on disk. It runs in a pod of its own that is not replaced by an upgrade, and its messages do not change.
//
//	initiator ── Keep(name, state, files) ─▶ holder        kill -9
//	successor ◀─ List: all names, states, files ── holder
//
// # The messages
//
// A unix socket of type SEQPACKET. Each message is one packet of JSON (message), at most maxMessage bytes, its files
// beside it as SCM_RIGHTS. Each request is answered by "ok" or "error"; before the "ok" of a "list" comes an "item" for
// each name.
//
// # Invariants
//
//   - One client at a time: who connects while another is connected waits until the kernel has closed the other's
//     descriptors, which is when no thread of it can answer a request any more.
//   - Keep replaces the item of that name as a whole: its state and its files change together, or not at all.
//   - At most maxItems items of maxFiles files are kept.
//
// # Concurrency
//
// A Holder serves its clients one after the other on the goroutine that called Serve. A Client may be used from several
// goroutines, which take turns.
//
// # Failure
//
// When the holder ends alone nothing happens to the devices, and the initiator hands everything to its successor
// (Client.Closed tells it when). When only the connection ends, it tells the next time what is to be dropped. A client
// that cannot be accepted is tried again. When both have ended, the kernel closes the files and I/O fails with EIO.
// What is malformed is answered with an error, and its files are closed.
package holder
