package client

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport"
)

// Errors that callers tell apart.
var (
	// ErrUnknownVolume: every storenode that was asked answered that it knows no such Volume.
	ErrUnknownVolume = errors.New("the storenodes know no such volume")
	// ErrFenced: a newer attachment exists, or the Volume is deleted. It is of no use here any more.
	ErrFenced = errors.New("a newer attachment exists, or the volume is deleted")
	// ErrUnreachable: no storenode answered with the map.
	ErrUnreachable = errors.New("no storenode answers")
	// ErrClosed: the Volume was closed before the outcome was known.
	ErrClosed = errors.New("volume is closed")
	// ErrNoSpace: a Device is full; only this Request failed.
	ErrNoSpace = errors.New("no space on device")
	// ErrIO: a Device failed and no other Replica could stand in.
	ErrIO = errors.New("device failed")
	// ErrCorruption: there is no good copy of the data.
	ErrCorruption = errors.New("data is corrupt")
	// ErrInvalid: out of bounds, not aligned, or refused by the storenode as such.
	ErrInvalid = errors.New("invalid request")
	// ErrTooFew: fewer Replicas were in sync than the Volume asks for, for a long time. The change may have been made, and
	// has not been acknowledged.
	ErrTooFew = errors.New("too few replicas in sync")
	// ErrTooMany: more than MaxRequests are in flight.
	ErrTooMany = errors.New("too many requests in flight")
)

// Limits.
const (
	// MaxIO bounds a Request with payload, MaxSpan one without, in bytes.
	MaxIO   = ident.MaxIO
	MaxSpan = 1 << 30
	// MaxRequests bounds the Requests in flight of one Volume. Frontends stay far below.
	MaxRequests = 4096
	// MaxAddresses bounds Options.Addresses.
	MaxAddresses = 64
	// maxPeers is how many storenodes a Volume knows before it forgets those that no Record names.
	maxPeers = 256
	// maxFreeParts bounds the parts kept for reuse.
	maxFreeParts = 1024
	// window is how many numbers of a Shard may be in use: replication.SessionWindow, which csi need not import.
	window = 128
)

// tick is the unit in which a Volume counts time.
const tick = 20 * time.Millisecond

// Durations, in ticks.
const (
	// askTicks is how long after a question for the map the next may follow.
	askTicks = 5
	// openTicks is how long the answer may take before another storenode is asked.
	openTicks = 25
	// quietTicks is how long a Shard may make no progress before others are asked who its Primary is.
	quietTicks = 50
	// pleadTicks is how long a Primary may not be heard before others are asked to take over; those of one Shard a tick.
	pleadTicks = 100
	// stallTicks is the same for the log and the metrics.
	stallTicks = 50
	// busyTicks bounds the pause after a busy answer; it grows up to that.
	busyTicks = 5
	// tooFewTicks is how long a change waits for Replicas to be in sync before it fails, two minutes: longer than a
	// storenode takes to return, and no longer than applications bear to know nothing. It must be far above the time after
	// which connections that are dead at one end are ended at the other: see tooFew. It is sent again after a pause that
	// grows by tooFewStep up to tooFewPause: what is sent has its data with it, and nothing changes within less.
	tooFewTicks = 6000
	tooFewStep  = 5
	tooFewPause = 25
	// greetTicks is how long a storenode may take to say hello.
	greetTicks = 100
	// dialTicks bounds the pause between failed dials; it grows up to that. A connection that lived for less than
	// shortTicks and took something with it counts as failed: whatever ended it may do so again.
	dialTicks  = 50
	shortTicks = 10
	// unusedTicks is how long a connection to who is no Shard's Primary stays after its last question or answer.
	unusedTicks = 500
	// lostTicks is how long a part may wait on a living connection before it is sent again: a net under whatever may
	// have dropped it. lostBatch of them a Shard and tick.
	lostTicks = 500
	lostBatch = 8
)

// dialTimeout bounds one try to connect, askTimeout the map from one address at Open.
const (
	dialTimeout = time.Second
	askTimeout  = 3 * time.Second
)

// Buffer is payload memory.
type Buffer = buffer.Buffer

// Timer is what time.AfterFunc gives.
type Timer interface {
	Reset(d time.Duration) bool
	Stop() bool
}

// Options of Open. All but the last are required.
type Options struct {
	Volume ident.UUID
	// Generation of the attachment.
	Generation ident.Generation
	// Addresses, host:port, of storenodes to ask for the map.
	Addresses []string
	// Node is the name that storenodes log.
	Node   string
	Dialer transport.Dialer
	// Pool is this Volume's own, and its connections'.
	Pool *buffer.Pool
	// AfterFunc is the clock.
	AfterFunc func(d time.Duration, f func()) Timer
	Metrics   *Metrics
	Log       *slog.Logger
	// Closed, if not nil, is called once at the end of Close.
	Closed func()
}

func (o *Options) validate() error {
	switch {
	case o.Volume.IsZero():
		return errors.New("options: volume is zero")
	case o.Generation == 0:
		return errors.New("options: generation is 0")
	case len(o.Addresses) == 0 || len(o.Addresses) > MaxAddresses:
		return fmt.Errorf("options: %d addresses, want 1 to %d", len(o.Addresses), MaxAddresses)
	case o.Dialer == nil || o.Pool == nil || o.AfterFunc == nil || o.Metrics == nil || o.Log == nil:
		return errors.New("options: dialer, pool, clock, metrics and log are required")
	}
	return nil
}

// Metrics count over all Volumes that share them.
type Metrics struct {
	// Requests by Op.
	Requests [OpWriteZeroes + 1]atomic.Int64
	// Failed Requests.
	Failed atomic.Int64
	// InFlight is the number of Requests now.
	InFlight atomic.Int64
	// Resends counts parts that were sent again, Redirects and Busy the answers that made them.
	Resends, Redirects, Busy atomic.Int64
	// TooFew counts answers that too few Replicas are in sync for a change.
	TooFew atomic.Int64
	// Asked counts the questions for a map after Open, Unreached those among them that told that a Primary cannot be
	// reached from here.
	Asked, Unreached atomic.Int64
	// StalledTicks counts ticks in which a Volume made no progress, see StalledSeconds.
	StalledTicks atomic.Int64
	// Stalled is the number of Volumes that make no progress now.
	Stalled atomic.Int64
	// Connections that are ready.
	Connections atomic.Int64
}

// StalledSeconds is how long Volumes made no progress, in sum.
func (m *Metrics) StalledSeconds() float64 { return float64(m.StalledTicks.Load()) * tick.Seconds() }
