package shard

import (
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/store"
)

// ErrStaleRecord refuses a Record older than what the Replica has seen: the keeper of records was set back.
var ErrStaleRecord = replication.ErrStaleRecord

// ErrSetBack refuses another Record of the Epoch that the Replica has seen. It is a case of ErrStaleRecord.
var ErrSetBack = replication.ErrSetBack

// ErrNoSpace says that the Device has no room for a Replica.
var ErrNoSpace = store.ErrNoSpace

// Authority is the Host's way to the keeper of membership records: the Kubernetes API in a cluster (storenode/agent),
// something simpler in benchmarks and tests. It is never in the path of an I/O.
type Authority interface {
	// Propose asks that the record of a Shard become next, if it still is the one with Epoch next.Epoch-1
	// (compare-and-swap). Does not block. The outcome comes back as Host.Decided with the record that is in force
	// then, ours or another's; while the keeper cannot be reached it does not come back at all, and the Authority
	// tries again, within limits, until Forget.
	Propose(shard ident.ShardID, next membership.Record)
	// Unreachable says whom this storenode, as a Backup, has not heard from for longer than the grace period: the
	// addresses of storenodes, whole set each time.
	Unreachable(addresses []string)
}

// Desired is what should be here of one Shard, as the Authority sees it.
type Desired struct {
	Shard ident.ShardID
	// Size of the Shard in bytes.
	Size int64
	// Record now; Epoch 0 while Replicas are still being created: then space is reserved and nothing is served.
	Record membership.Record
	// Generation of the newest attachment of the Volume.
	Generation ident.Generation
	// MinInSync is how many Replicas must be in sync for a change to be acknowledged. The Primary acknowledges none until
	// it has been told; 0 tells nothing.
	MinInSync int
}

// State of a local Replica.
type State uint8

// The states, as they are shown in the Shard's status.
const (
	// StateCreated: space is reserved, the Shard is not served, yet or any more.
	StateCreated State = iota + 1
	StateInSync
	StateRebuilding
	StateStale
	StateFailed
)

// Status is what a Host says of one local Replica.
type Status struct {
	Key    ident.ReplicaKey
	Device ident.UUID
	State  State
	// Primary says whether the Replica serves the Shard now.
	Primary bool
	Epoch   ident.Epoch
	// Listed says whether the newest Record that the Replica knows has it. One that a person gave up, and that came back,
	// is kept and is in none.
	Listed bool
	// RebuildPercent while State is StateRebuilding.
	RebuildPercent int
	// RebuildLeft is how long the Rebuild is expected to take yet; 0 if that is not known.
	RebuildLeft time.Duration
	UsedBytes   int64
	// LostBlocks is how many Blocks of the Shard no Replica can read, as far as the Primary has met them.
	LostBlocks int
	// Findings of damage, while the Replica was the Primary.
	Findings Findings
	// Scrub of the Shard, while the Replica is the Primary.
	Scrub Scrub
	// PowerLost: writes that were acknowledged but not flushed may be missing here, since a loss of power.
	PowerLost bool
	// Disputed: the Replica knows that there is another Record of its Epoch, so it serves nothing until it is told a newer
	// one.
	Disputed bool
	// Message says why, when the State is not StateInSync.
	Message string
}

// Manager is what the agent may ask of a Host. All calls may come from any goroutine; they wait for the Device where
// they must (create, delete), so they are not for the data path.
type Manager interface {
	// AddDevice takes an open Store into service; RemoveDevice ends that.
	AddDevice(s *store.Store) error
	RemoveDevice(device ident.UUID) error
	// Apply makes it so, for those of the Record's Replicas whose Device is here: creates missing Replicas (reserving
	// their space; ErrNoSpace if there is none), adopts a newer Record or Generation. Idempotent. An older
	// Record than the Replica has seen is refused with ErrStaleRecord and changes nothing; a newer Generation counts
	// all the same.
	Apply(d Desired) error
	// Decided is the outcome of Authority.Propose.
	Decided(shard ident.ShardID, inForce membership.Record)
	// Delete removes a local Replica of a Shard that is gone for good, or that lost its place here, and gives the space
	// back, durably. Until it has succeeded the Replica is among the Statuses, and it may be asked for again.
	Delete(key ident.ReplicaKey) error
	// Statuses of all local Replicas, StatusesOf those of one Shard.
	Statuses() []Status
	StatusesOf(shard ident.ShardID) []Status
	// Health of a Device in service.
	Health(device ident.UUID) Health
	// Publish tells the map of a Volume, for OPEN by clients; Unpublish forgets it.
	Publish(m VolumeMap)
	Unpublish(volume ident.UUID)
	// Retire has OPEN say Fenced to whoever asks for a Volume that is deleted for good, so that a client that was away
	// meanwhile does not wait for it for ever. Remembered by this process, of the last maxRetired.
	Retire(volume ident.UUID)
}

// VolumeMap is what OPEN tells a client: the Shards of a Volume and their records.
type VolumeMap struct {
	Volume    ident.UUID
	Size      int64
	ShardSize int64
	// Generation of the newest attachment.
	Generation ident.Generation
	// Shards in order of their Index.
	Shards []membership.Record
}
