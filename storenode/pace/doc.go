// Package pace finds, among copies that do the same work, the one that makes all of it slow.
//
// A Replica that is alive and slow misses no deadline; but a change is acknowledged when the last of InSync has it, so
// all are as slow as the slowest. Copies are compared change by change: what slows all of them (load, a full network, a
// busy Primary) is held against none.
//
// # Invariants
//
//   - A copy is named only if it was last by Floor at least, and Factor times as late as all the others, in one of
//     Share changes, for Windows windows in a row.
//   - One copy is named at a time; the rest starts over.
//
// Pure: it has no clock, goroutine or lock, and allocates nothing. A Pace belongs to whoever orders the changes
// (replication.Machine), which decides what becomes of the copy that is named.
package pace
