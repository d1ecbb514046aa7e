package wire

import "github.com/shale-storage/shale/storenode/ident"

// HeaderSize is the size of an encoded Header, in bytes: two cache lines.
const HeaderSize = 128

// MaxPayload bounds the payload of a frame, in bytes: the largest I/O.
const MaxPayload = ident.MaxIO

// Header precedes the payload of each frame. One shape serves all opcodes, so that a frame can be understood without
// any state of its connection; a field that an opcode does not use is zero.
type Header struct {
	Opcode Opcode
	Flags  Flags
	// Status of a reply; StatusOK in requests.
	Status Status
	// Length of the I/O in bytes (reads and discards carry no payload, so it is not the payload's).
	Length uint32
	// Request names the request within its Session; a reply repeats it.
	Request ident.RequestID
	Session ident.SessionID
	Shard   ident.ShardID
	// PayloadLength in bytes, at most MaxPayload.
	PayloadLength uint32
	Epoch         ident.Epoch
	Generation    ident.Generation
	// Snapshot is what the opcode says; the I/O of clients has 0.
	Snapshot uint64
	// Offset within the Shard, in bytes.
	Offset uint64
	// Seq of the write, and Committed: all writes up to it are on every InSync Replica (in client requests: the
	// lowest request id the session still waits for, so that older ones may be forgotten).
	Seq       ident.Seq
	Committed ident.Seq
	// From and To are the Replicas that talk; 0 for clients.
	From ident.ReplicaID
	To   ident.ReplicaID
	// PayloadCRC is the payload's checksum, 0 without one; see the package's comment.
	PayloadCRC uint32
}

// Opcode is what a frame asks for or answers.
type Opcode uint8

// The opcodes. A number is never used again.
const (
	// OpHello opens a connection: an encoded Hello says who speaks. First frame each way.
	OpHello Opcode = iota + 1
	// OpOpen asks for a part of a Volume's map, from the Shard it names on: the reply's payload is an encoded MapPage.
	OpOpen
	// OpRead to OpWriteZeroes are client I/O, sent to the Primary of the Shard.
	OpRead
	OpWrite
	OpFlush
	OpDiscard
	OpWriteZeroes
	// OpReplWrite to OpReplFlush are the replicated forms, Primary to Backup.
	OpReplWrite
	OpReplDiscard
	OpReplWriteZeroes
	OpReplFlush
	// OpHeartbeat renews the lease that a Backup's storenode gives to a Primary's.
	OpHeartbeat
	// OpRebuildStart lets a Replica join: it forgets what it followed before, and new writes go to it from now on.
	// Primary to the joining Replica, as the next two.
	OpRebuildStart
	// OpRebuildWrite and OpRebuildDiscard copy Blocks that were written, and those that were not. Committed is the
	// Epoch of the Extent they are copied from. Snapshot is how far a joining Replica is, in 1/10000; for a member of
	// InSync, the Seq to be recorded, 0 for none.
	OpRebuildWrite
	OpRebuildDiscard
	// OpChecksum asks for the digests of the allocated Extents that begin in [Offset, Offset+Length·1 MiB). The
	// answer has encoded ExtentDigests of the first MaxDigests at most, and in Length how many Extents it covers.
	OpChecksum
	// OpTail begins the reign of a new Primary: the receiver drains what it has in flight, forgets the former reign
	// and answers with the encoded Tail of its recent writes; Seq is its highest, Committed the highest it was told,
	// FlagPowerLost as it is.
	OpTail
	// OpRecord tells an encoded membership record to who may not know it: the superseded Primary, a Backup at the
	// change of Epoch. The answer says that it is adopted.
	OpRecord
	// OpFetch asks a member for a Block as it has it, to heal the Primary's own. Committed is the Primary's place for
	// the question, Generation its number there, Snapshot counts the times it is asked; the answer has the Block.
	OpFetch
	// OpRebuildSpoil copies a Block that no Replica can read any more: nobody may take it for written or for zeros.
	// Committed is as above, Snapshot the checksum that the lost content had.
	OpRebuildSpoil
	// OpVerify asks a member whether it can read what it has in a range; named as OpFetch is, answered without the data.
	// An OpChecksum of a scrub is named likewise.
	OpVerify
	// OpYield asks the Primary to let the sender be Primary, because a client reaches only that one. Not answered.
	OpYield
)

// Flags modify an opcode.
type Flags uint16

// The flags.
const (
	// FlagReply marks an answer; the opcode is that of the request.
	FlagReply Flags = 1 << iota
	// FlagFUA asks that the write survive power loss before it is acknowledged.
	FlagFUA
	// FlagPowerLost in the answer of OpTail: the Replica was recovered after a loss of power.
	FlagPowerLost
	// FlagLeaving in the answer of OpHeartbeat: the storenode is about to end; its Replicas are to be taken out of
	// InSync before.
	FlagLeaving
	// FlagUnreached in OPEN: the client does not reach the Primary of the Shard that the request names, whose Record has
	// the Epoch of the request.
	FlagUnreached
)

// Status is the outcome of a request.
type Status uint16

// The outcomes. A number is never used again.
const (
	StatusOK Status = iota
	// StatusStaleEpoch: the sender's Epoch is not the current one; the reply's payload is the encoded membership.Record
	// that is known here, or nothing.
	StatusStaleEpoch
	// StatusNotPrimary: ask the Primary; payload as above.
	StatusNotPrimary
	// StatusFenced: a newer attachment generation has been seen, or the Volume is deleted.
	StatusFenced
	// StatusNoSpace: the Device is full; only this write failed.
	StatusNoSpace
	// StatusIO: the Device failed.
	StatusIO
	// StatusCorruption: no good copy of the data.
	StatusCorruption
	// StatusInvalid: out of bounds, not aligned, unknown opcode.
	StatusInvalid
	// StatusNotFound: no such Volume, Shard or Replica here.
	StatusNotFound
	// StatusBusy: a limit was reached or the Shard is not ready; try again.
	StatusBusy
	// StatusTooFew: fewer Replicas are in sync than the Volume asks for, so changes are not acknowledged; try again. Seq
	// is how many are in sync, Committed how many are asked for.
	StatusTooFew
)
