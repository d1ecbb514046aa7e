package replication

import (
	"errors"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
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

// Machine is one Replica.
type Machine struct{}

// New makes a Machine that follows nobody yet.
func New(c Config) *Machine { panic("not written") }

// Step takes a message, with its Payload.
func (m *Machine) Step(now Instant, message *Message) {}

// Stored tells the end of an Op; its Err and, for a Read, its Payload are set.
func (m *Machine) Stored(now Instant, op *Op) {}

// Persisted tells that the Replica remembers the Record of that Epoch.
func (m *Machine) Persisted(now Instant, epoch ident.Epoch, err error) {}

// Adopt takes a Record that is in force. The one known already changes at most addresses; an older one is refused with
// ErrStaleRecord.
func (m *Machine) Adopt(now Instant, r membership.Record) error { return nil }

// Fence refuses clients of lower generations from now on.
func (m *Machine) Fence(now Instant, g ident.Generation) {}

// Connected tells that the storenode of a Replica can be reached, by a new connection; restarted says that it is another
// process than the last time it was reached.
func (m *Machine) Connected(now Instant, id ident.ReplicaID, restarted bool) {}

// Disconnected tells that what was sent to the storenode of a Replica and not answered is lost.
func (m *Machine) Disconnected(now Instant, id ident.ReplicaID) {}

// Tick lets time pass; called every Timing.Heartbeat / 4 or so while Busy.
func (m *Machine) Tick(now Instant) {}

// Busy reports whether time matters: something is in flight, waited for or out of sync.
func (m *Machine) Busy() bool { return true }

// Ready is what is to be done, and whether there is anything. Done ends it.
func (m *Machine) Ready() (*Ready, bool) { return nil, false }

// Done says that everything in Ready was begun.
func (m *Machine) Done() {}

// Record is the newest known.
func (m *Machine) Record() membership.Record { return membership.Record{} }

// Status is what people are shown.
func (m *Machine) Status() Status { return Status{} }

// Close drops everything, releasing what it holds; Ops in flight are still to be Stored.
func (m *Machine) Close() {}
