package replication

import (
	"errors"
	"time"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// Errors that drivers tell apart.
var (
	// ErrStaleRecord refuses a Record older than the newest known: the keeper of records was set back.
	ErrStaleRecord = errors.New("record is older than what the replica has seen")
	// ErrNoSpace, ErrCorruption and ErrBusy are what Op.Err may be besides a failed Device.
	ErrNoSpace    = errors.New("no space on device")
	ErrCorruption = errors.New("checksum mismatch")
	ErrBusy       = errors.New("no memory for now")
)

// Instant is a reading of the storenode's monotonic clock: nanoseconds since some moment before its start.
type Instant int64

// After is the Instant d later.
func (i Instant) After(d time.Duration) Instant { return i + Instant(d) }

// Payload is counted memory that the Machine passes on and never looks at.
type Payload interface {
	Retain()
	Release()
}

// Message is a frame to or from a client or another Replica of the Shard.
type Message struct {
	wire.Header
	// Payload passes with the Message: whoever has it last releases it.
	Payload Payload
	// Route is how an answer finds back to a client. The driver's own; nil between Replicas, which are named by Header.To
	// and live where the Record says.
	Route any
}

// OpKind is what an Op does to the local Replica.
type OpKind uint8

// The kinds, as store.Op has them.
const (
	Read OpKind = iota + 1
	Write
	Discard
	WriteZeroes
	Flush
	// Spoil makes a Block of the Replica one that cannot be read, until it is written again.
	Spoil
)

// Op is an operation on the local Replica. It belongs to the driver from Ready until Stored.
type Op struct {
	Kind OpKind
	FUA  bool
	// Offset and Length in bytes within the Replica.
	Offset int64
	Length int
	// Seq and Epoch to be recorded. A copy made by a Rebuild carries the Epoch of the Extent it copies and Seq 0.
	Seq   ident.Seq
	Epoch ident.Epoch
	// Payload holds the bytes to write. For a Read the driver provides it before Stored; when it has no memory it sets Err
	// to ErrBusy at once.
	Payload Payload
	// Sum is the checksum that the content of a Block had that is Spoiled.
	Sum uint32
	// Err is the outcome, set by the driver: nil, ErrNoSpace, ErrCorruption, ErrBusy or anything else for a Device that
	// failed.
	Err error
	// Slot is the driver's: it may keep its own record here from one use of the Op to the next.
	Slot any

	// owner is told of the end; nil when what it was for is over. next links free ones.
	owner opOwner
	// begun is when, by the Machine's patience.
	begun time.Duration
	// request is what a Backup answers when the Op has ended, follows which of its followings it belongs to.
	request wire.Header
	follows uint64
	next    *Op
}

// Environment is what a Machine may ask of the storenode around it; answered at once, from memory.
type Environment interface {
	// LeaseUntil is how long the storenode of that Replica has promised to take no other Primary in place of this one.
	LeaseUntil(id ident.ReplicaID) Instant
	// Promised is the last moment this storenode made that promise to the storenode of that Replica: the time of its last
	// answered heartbeat, never before this storenode's start.
	Promised(id ident.ReplicaID) Instant
	// Tail appends the recent writes of the local Replica, oldest first; LastSeq is the highest Seq it has seen.
	Tail(into []wire.TailRecord) []wire.TailRecord
	LastSeq() ident.Seq
	// PowerLost reports whether the local Replica was recovered after a loss of power, now or in an earlier life, and has
	// not been Sound since: acknowledged writes that were not flushed may be missing.
	PowerLost() bool
	// Doubtful calls f for ranges of the local Replica, each within an Extent, in bytes, in which its recovery found
	// Blocks that hold neither what they should nor what they did, or may have since power was lost.
	Doubtful(f func(offset, length int64))
	// Extents calls f for each allocated Extent of the local Replica from the one with index from on, until f returns
	// false.
	Extents(from uint32, f func(wire.ExtentDigest) bool)
	// Written are the Blocks of an Extent of the local Replica that were written.
	Written(extent uint32) bitmap.Bitmap
	// Checksum is the one remembered for a Block of the local Replica, and whether the Block was written; Sum is that of
	// what is in a Payload.
	Checksum(offset int64) (sum uint32, written bool)
	Sum(p Payload) uint32
	// AcquireRebuild takes one of the storenode's slots for copying so many bytes, or reports that none is free, or the
	// budget is spent (the Machine asks again at the next Tick); ReleaseRebuild gives it back.
	AcquireRebuild(bytes int) bool
	ReleaseRebuild()
	// Observe is told how long a client's request took.
	Observe(latency time.Duration)
	// Encode puts an encoded structure into memory for a Message, or answers nil when there is none now. Decode reads it.
	Encode(encoded []byte) Payload
	Bytes(p Payload) []byte
}

// Config of a Machine. All fields are required.
type Config struct {
	Self ident.ReplicaKey
	// Size of the Shard in bytes.
	Size int64
	// Record and Generation the Replica remembers from before; zero for a new one.
	Record     membership.Record
	Generation ident.Generation
	// Life grows with each start of the Replica's process. A Primary that ends and starts again in one Epoch begins its
	// numbers again, and the windows of its Backups must not take them for those of the life before.
	Life        uint64
	Environment Environment
	Timing      Timing
}

// Timing is the durations the Machine goes by. See docs/replication.md for what must hold between them.
type Timing struct {
	// Heartbeat is how often a Primary's storenode asks for leases.
	Heartbeat time.Duration
	// Lease is how long an answered heartbeat lets the Primary serve, from when it was sent.
	Lease time.Duration
	// Grace is how long a Backup takes no other Primary, from when it answered. More than Lease by the drift of clocks.
	Grace time.Duration
	// Deadline is how long a member may take to acknowledge before it is evicted.
	Deadline time.Duration
}

// DefaultTiming holds for drifts of the clocks' speeds below 10 %.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat: 300 * time.Millisecond, Lease: 1800 * time.Millisecond, Grace: 2200 * time.Millisecond,
		Deadline: 1800 * time.Millisecond,
	}
}

// Limits of a Machine.
const (
	// MaxOps bounds the client operations of a Shard that are in flight or wait; more are answered StatusBusy.
	MaxOps = 512
	// MaxWindow bounds how far Seq runs ahead of Committed.
	MaxWindow = 128
	// MaxSessions bounds the client sessions that are remembered; the one unused for longest is forgotten.
	MaxSessions = 16
	// SessionWindow is how many request ids of one session may be outstanding in a Shard.
	SessionWindow = 128
)

// Ready is what the driver has to do. Its slices are valid until Done.
type Ready struct {
	// Record to be remembered by the Replica, nil if none; Generation likewise, 0 if none.
	Record     *membership.Record
	Generation ident.Generation
	// Sound: the Replica is to remember that it misses nothing any more (see Environment.PowerLost).
	Sound  bool
	Stores []*Op
	Sends  []Message
	// Propose is the next Record, nil if none.
	Propose *membership.Record
	// Findings are to be told to people.
	Findings []Finding
}

// FindingKind is what became of a Block that could not be read.
type FindingKind uint8

// The kinds.
const (
	// Healed from another Replica.
	Healed FindingKind = iota + 1
	// Lost: no Replica has it any more; it cannot be read until it is written again.
	Lost
	// Differs: a Replica's Extent is not what the Primary's is, though both can be read. The Primary's is what clients
	// were told since its reign began, so the other is made equal to it.
	Differs
	// Stuck: the Primary's own Device did not answer within the deadline, so another Replica is to be Primary.
	Stuck
	// Slow: the Replica has changes much later than the others, so it leaves InSync for a while.
	Slow
	// Yielded: a client reaches From and not this Replica, so From is to be Primary.
	Yielded
)

// Finding is news of Blocks of a Replica.
type Finding struct {
	Kind    FindingKind
	Replica ident.ReplicaID
	// From is the Replica whose copy was good.
	From ident.ReplicaID
	// Epochs of the last change of an Extent that Differs, there and at the Primary.
	Epochs [2]ident.Epoch
	Offset int64
	Length int
}

// Role of the local Replica, as its status shows it.
type Role uint8

// The roles.
const (
	// RoleIdle: not part of a reign now (created, restarted, or out of the Record).
	RoleIdle Role = iota + 1
	// RoleBackup follows the Primary of the Record.
	RoleBackup
	// RoleJoining is being brought in sync.
	RoleJoining
	// RoleClaiming is the Primary of the Record, and waits for promises, leases and equal members.
	RoleClaiming
	// RolePrimary serves.
	RolePrimary
)

// Status is what people are shown.
type Status struct {
	Role   Role
	Record membership.Record
	// Progress of a Rebuild, of Whole: while RoleJoining as the Primary told, or of the worst joining Replica at a
	// Primary.
	Progress int
	// Lost is how many Blocks no Replica can read, as far as a Primary has met them.
	Lost int
	// PowerLost: acknowledged writes may be missing here.
	PowerLost bool
	// Disputed: another Record of this Epoch is known, so nothing is served until there is a newer one.
	Disputed bool
	// Message says what is waited for.
	Message string
}
