package store

import (
	"errors"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

// Errors of an IO or a call; compare with errors.Is.
var (
	// ErrNoSpace: no free Extent or Journal room; only this write failed, everything else lives on.
	ErrNoSpace = errors.New("no space on device")
	// ErrCorruption: the data does not match its checksum and must come from another Replica.
	ErrCorruption = errors.New("checksum mismatch")
	// ErrBounds: outside the Replica, or not a multiple of the Block size.
	ErrBounds = errors.New("out of bounds")
	// ErrUnknownReplica: the Device holds no such Replica.
	ErrUnknownReplica = errors.New("unknown replica")
	// ErrFailed: the Journal could not be written; the Store takes no writes any more.
	ErrFailed = errors.New("store has failed")
	// ErrCorruptDevice: what is needed to open the Device is damaged.
	ErrCorruptDevice = errors.New("device metadata is damaged")
	// ErrTooMany: the Device holds as many Replicas as it can.
	ErrTooMany = errors.New("too many replicas on device")
)

// MaxSpan bounds the Length of an OpDiscard or OpWriteZeroes, in bytes.
const MaxSpan = 1 << 30

// Op is what an IO asks for.
type Op uint8

// The operations on a Replica. A write is durable against the end of the process when it completes; against power loss
// when FUA was set, or once a later OpFlush has completed. Of what a Replica is to remember (SetRecord, SetGeneration,
// SetSound) an OpFlush covers all that was asked for before it was submitted.
const (
	OpRead Op = iota + 1
	OpWrite
	OpDiscard
	OpWriteZeroes
	OpFlush
)

// Handle names an open Replica on its Device: a small index into flat tables, for the data path.
type Handle uint32

// IO is one operation on a Replica. It belongs to the Store from Submit until its completion, may then be reused, and
// is embedded in the larger request, so that the data path allocates nothing. Two overlapping IOs of which one writes
// must not be in flight together: the caller's range locks order them.
type IO struct {
	Op      Op
	FUA     bool
	Replica Handle
	// Offset and Length within the Replica, in bytes, multiples of ident.BlockSize. May straddle Extents.
	Offset int64
	Length int
	// Seq and Epoch are recorded with writes, discards and zeroes.
	Seq   ident.Seq
	Epoch ident.Epoch
	// Buf holds Length bytes to write, or takes them. The Store holds no reference of its own: the caller keeps it alive
	// until completion.
	Buf *buffer.Buffer
	// Done is told of the completion, inside the monitor, never from within Submit.
	Done Completer
	// Err is the outcome.
	Err error
	// Next links IOs in intrusive queues of whoever owns the IO at the moment.
	Next *IO

	state ioState
}

// Completer is told of the end of an IO. It may Submit; it must not block.
type Completer interface {
	IODone(io *IO)
}

// ReplicaInfo is what a Device holds of one Replica.
type ReplicaInfo struct {
	Key  ident.ReplicaKey
	Size int64
	// Record is the highest membership record this Replica was shown.
	Record membership.Record
	// Generation is the highest attachment generation this Replica was shown.
	Generation ident.Generation
	// LastSeq is the highest Seq in the Journal or Checkpoint.
	LastSeq ident.Seq
	// UsedBytes are those of allocated Extents.
	UsedBytes int64
	// Lossy: power was lost, so writes that had completed but were not flushed may be missing; until SetSound.
	Lossy bool
}

// ExtentInfo describes one allocated Extent of a Replica, for Rebuild and Scrub.
type ExtentInfo struct {
	// Index of the Extent in the Replica: Offset / ExtentSize.
	Index uint32
	// Epoch of its last write or discard.
	Epoch ident.Epoch
	// Digest covers the written-bitmap and the checksums of the written Blocks.
	Digest uint64
}

// TailRecord is one recent write as the Journal has it, for reconciling after a failover.
type TailRecord struct {
	Seq    ident.Seq
	Epoch  ident.Epoch
	Offset int64
	Length int
}

// Usage is the space of a Device, in bytes.
type Usage struct {
	Capacity, Used, Reserved int64
}
