// Package replication is the pure state machine of one Replica: it orders writes as a Primary, follows one as a Backup,
// takes over, makes members equal, and brings Replicas back in sync. After PacificA (Lin, Yang, Zhang, Yang, 2008).
//
// A Machine has no goroutine, clock, lock or I/O. Its driver feeds it events (Step, Stored, Adopt, Tick, …), each with
// a reading of the driver's monotonic clock, and does what Ready lists. All calls of one Machine happen in the monitor
// of its Device.
//
// # Duties of the driver
//
// After each event, or after a batch of them, the driver takes Ready and, in this order:
//
//  1. makes the Replica remember Record (then Persisted), Generation and that it is Sound,
//  2. submits each of Stores to the Store (then Stored, exactly once each, never from within),
//  3. sends each of Sends; a message that cannot be sent is dropped, its Payload released,
//  4. proposes Propose to the keeper of records (then Adopt with whatever is in force, or nothing),
//
// and calls Done. Messages between two Replicas arrive in the order they were sent or, after Disconnected and
// Connected, not at all; the Machine holds its invariants even if they are doubled, late or reordered.
//
// # Invariants
//
//   - A write is acknowledged to a client only when every member of InSync, and every Replica proposed for it, has it.
//   - A Replica serves clients only as the Primary of the newest Record it knows, after it made all members equal,
//
// while
//
//	  it holds a lease from every member of InSync, and after the promise it made to the former Primary is over.
//	- Overlapping operations of which one writes are never in flight together: not here, and not at any member.
//	- A write is applied at most once in a reign, and never after a newer one of the same Blocks.
//	- Epoch never goes back.
package replication
