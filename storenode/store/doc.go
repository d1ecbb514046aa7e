// Package store makes one Device usable: Replicas that are created, read, written, discarded and deleted; that
// recover after a crash; whose every Block is checked against its checksum.
//
// # The path of a write
//
// Submit splits it at Extents into pieces. For each piece an Extent is found or allocated, one record with the
// Blocks' checksums goes into the open batch of the Journal. Where nothing was written before, the data goes to its
// place at once. A small piece that replaces something is carried by the Journal, behind its record, and is placed
// later, after a flush, many at a time; until then a page of memory answers reads. So an overwrite waits for one
// write, is old or new after a loss of power, and Blocks that are written again and again are placed once. A large
// one waits until its record is written, because data without a record would destroy the old contents and match no
// checksum, and until what is carried of the same Blocks is in its place. Kick, called when the monitor is left,
// sends the open batch if none is in flight: at low load nothing waits for it, and under load records gather by
// themselves. A piece is applied to the state in memory when both are there; the IO completes when all its pieces
// are, and with FUA after the next flush.
//
// # Checkpoints
//
// When a quarter of the Journal is used, the pieces on their way are waited for, what is carried is placed, every
// Extent that changed is written to its free slot, the Device is flushed, the other Checkpoint area is written, and
// the Device is flushed again. Foreground writes go on meanwhile; what they change is changed again by replaying. The
// Journal is kept back to the Checkpoint before the last, so that either will do.
//
// # Invariants
//
// A completed write is in the Journal, and its data is there too or in its place; after a flush both survive power
// loss. The Journal is not reused before what it carries is in its place, durably; and nothing carried is placed
// before its record is durable. Nothing is applied before that, so no slot speaks of data that is not there. What was
// freed is reused only after the record that freed it was flushed and the Device was told, or the process has ended
// meanwhile: an Open waits for what an earlier one had in flight. A Block is served only if
// it matches its checksum; unwritten ones are zeros, whatever the Device holds.
//
// # Concurrency
//
// No goroutine and no lock: every call happens inside the Device's monitor (engine.Owner), except Open, Format and
// Close, which take it themselves and wait. Completions are delivered from Kick and from the Device's completions,
// never from Submit.
//
// # Failure
//
// A failed data write fails its IO. A failed flush, or a failed write of Journal, slot or Checkpoint, or of what the
// Journal carries to its place, fails the Store: all later writes complete with ErrFailed, reads go on, Health tells. A
// full Device fails the write that needs an Extent with ErrNoSpace, nothing else; while Extents are coming free the
// write waits for them, and keeps nobody else waiting.
package store
