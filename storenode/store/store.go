package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/membership"
)

// Options of Open and Format.
type Options struct {
	// Owner is the Device's monitor.
	Owner engine.Owner
	// Settle moves a Device that does not move by itself (a simulated one) until it has nothing to do; nil otherwise.
	Settle func()
	// Memory is where the Store's own buffers come from; nil for the kernel.
	Memory Memory
	Log    *slog.Logger
	// Boot names this run of the machine, so that recovery knows the end of a process from the loss of power.
	Boot uint64
	// Overcommit is how many bytes may be promised to Replicas for each byte of the Device; below 1 it counts as 1.
	Overcommit float64
}

// Store is one Device in service.
type Store struct {
	device engine.Device
	o      Options
	super  layout.Superblock
	table  *extent.Table

	journal    log
	checkpoint checkpointer
	// rests counts the calls of Rest since the last change.
	rests  int
	flush  flusher
	placer placer

	// ready are finished IOs whose completion is to be delivered.
	ready ioList
	// pieces in flight, oldest record first; free ones.
	inFlight  pieceList
	freePiece *piece
	// piecesOf counts those in flight of each of two eras; a Checkpoint begins one and waits for the other.
	era      int
	piecesOf [2]int

	// cleared has the frame of the last record that cleared Blocks of an Extent, as long as that may be lost with power;
	// one entry for each Extent at most.
	cleared map[uint32]uint64

	// starved are changes that wait for Extents which are about to come free, in the order in which they get them.
	starved ioList

	// asked counts rare changes, recording those on their way; behind are the flushes that wait for some.
	asked     uint64
	recording int
	behind    ioList

	discards int
	// discardable: the Device takes discards, as far as is known; the error of one is told once.
	discardable, undiscarded bool
	powerLost                bool
	// damaged and lossy as recovery found them.
	damaged []Damaged
	lossy   []uint32
	failed  error
	closing bool
	// opening: nobody calls Kick yet, so the Checkpoint of Open does.
	opening bool
	life    uint64
}

// Format makes an empty Device ours, under a new UUID. Any other content is refused, and left as it is.
func Format(device engine.Device, o Options, s layout.Superblock) error {
	d := &direct{device: device, o: o}
	defer d.close()
	info := device.Info()
	var found layout.Superblock
	content, what, err := layout.Probe(d, info.Size, &found)
	if err != nil {
		return fmt.Errorf("format %s: %w", info.Path, err)
	}
	if content != layout.Empty {
		return fmt.Errorf("format %s: it holds %s: %w", info.Path, describe(content, what), ErrNotEmpty)
	}
	if s.Geometry, err = layout.NewGeometry(info.Size); err != nil {
		return fmt.Errorf("format %s: %w", info.Path, err)
	}
	first := layout.Checkpoint{
		Generation: 1, Frame: 1, Copies: make([]layout.Copy, s.Extents), Boot: o.Boot, Clean: true,
	}
	super := make([]byte, layout.Unit)
	s.Encode(super)
	copies := layout.SuperblockCopies()
	err = errors.Join(
		d.clear(s.JournalStart(), s.JournalSize),
		d.write(first.Encode(nil, s.Salt), s.CheckpointStart(0)), d.flush(),
		d.write(super, copies[0]), d.write(super, copies[1]), d.flush(),
	)
	if err != nil {
		return fmt.Errorf("format %s: %w", info.Path, err)
	}
	return nil
}

// ErrNotEmpty says that the Device holds something and is not formatted.
var ErrNotEmpty = errors.New("device is not empty")

func describe(c layout.Content, what string) string {
	switch c {
	case layout.Ours:
		return "a device of Shale"
	case layout.Corrupt:
		return "a damaged device of Shale (" + what + ")"
	case layout.Foreign, layout.Empty:
	}
	return what
}

// Open recovers the Device and takes it into service.
func Open(device engine.Device, o Options) (*Store, error) {
	d := &direct{device: device, o: o}
	defer d.close()
	path := device.Info().Path
	super, bad, err := ReadSuperblock(d, device.Info().Size)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if taken := layout.Taken(d); taken != "" {
		return nil, fmt.Errorf("open %s: %s was made on it: %w", path, taken, layout.ErrNotOurs)
	}
	r, err := Recover(d, &super, o.Boot)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if r.Fallback {
		o.Log.Warn("Opening from the older checkpoint: the other one is damaged, and may be newer", "path", path,
			"area", r.Area, "generation", r.Checkpoint.Generation)
	}
	if bad >= 0 {
		o.Log.Warn("Repairing a superblock copy from the other", "path", path, "copy", bad)
		b := make([]byte, layout.Unit)
		super.Encode(b)
		if err := errors.Join(d.write(b, layout.SuperblockCopies()[bad]), d.flush()); err != nil {
			return nil, fmt.Errorf("repair superblock of %s: %w", path, err)
		}
	}
	if err := bring(d, &super, r.Carried); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s, err := newStore(device, o, super, r)
	if err != nil {
		return nil, err
	}
	// Checkpoints at once, so that no frame of a torn batch is ever taken for one written from now on; and in both
	// areas, because the Journal has a gap here, behind which neither may begin.
	s.opening = true
	for range 2 {
		if err := s.waitFor(s.Checkpoint); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
	s.opening, s.life = false, s.checkpoint.generation
	o.Log.Info("Opened device", "path", path, "device", super.UUID, "replayed", r.Replayed,
		"verified", r.Verified, "reverted", r.Reverted, "carried", len(r.Carried), "damaged", len(r.Damaged),
		"discards", s.discardable)
	return s, nil
}

func newStore(device engine.Device, o Options, super layout.Superblock, r *Recovered) (*Store, error) {
	s := &Store{
		device: device, o: o, super: super, table: r.Table, powerLost: r.PowerLost, damaged: r.Damaged,
		lossy: r.Lossy, cleared: map[uint32]uint64{}, discardable: device.Info().Discard,
	}
	if err := s.journal.init(s, r); err != nil {
		return nil, err
	}
	if err := s.checkpoint.init(s, r); err != nil {
		return nil, err
	}
	s.flush.init(s)
	if err := s.placer.init(s); err != nil {
		return nil, err
	}
	return s, nil
}

// Device is the identity in the Superblock; Pool the name of the Pool it was formatted for; Path where it is.
func (s *Store) Device() ident.UUID { return s.super.UUID }

// Pool is the name of the Pool the Device was formatted for.
func (s *Store) Pool() string { return s.super.Pool }

// Path of the Device.
func (s *Store) Path() string { return s.device.Info().Path }

// Owner is the monitor that the Store was opened with.
func (s *Store) Owner() engine.Owner { return s.o.Owner }

// PowerLost reports whether a loss of power, or a reset of the machine, is known since it last started, that a Replica
// still suffered from when the Device was opened (see ReplicaInfo.Lossy): writes that
// had completed but were not flushed may be missing.
func (s *Store) PowerLost() bool { return s.powerLost }

// Life grows with each Open of the Device: it is the number of the Checkpoint with which Open ended.
func (s *Store) Life() uint64 { return s.life }

// Health is nil, or why the Store has failed.
func (s *Store) Health() error { return s.failed }

// Lookup finds a Replica.
func (s *Store) Lookup(key ident.ReplicaKey) (Handle, bool) {
	h, ok := s.table.Lookup(key)
	return Handle(h), ok
}

// Info describes a Replica.
func (s *Store) Info(h Handle) (ReplicaInfo, error) {
	r := s.table.Replica(uint32(h))
	if r == nil {
		return ReplicaInfo{}, ErrUnknownReplica
	}
	return info(r), nil
}

// Replicas are all of the Device's.
func (s *Store) Replicas() []ReplicaInfo {
	var all []ReplicaInfo
	s.table.Handles(func(_ uint32, r *extent.Replica) { all = append(all, info(r)) })
	return all
}

func info(r *extent.Replica) ReplicaInfo {
	return ReplicaInfo{
		Key: r.Key, Size: r.Size, Record: r.Record, Generation: r.Generation, LastSeq: r.LastSeq, Lossy: r.Lossy,
		UsedBytes: int64(r.Used) * layout.ExtentSize,
	}
}

// Usage is the Device's space.
func (s *Store) Usage() Usage {
	return Usage{
		Capacity: s.super.Capacity(), Used: int64(s.table.Used()) * layout.ExtentSize, Reserved: s.table.Reserved,
	}
}

// Doubtful calls f for ranges of a Replica, each within an Extent, in bytes, that hold Blocks which recovery found to
// be damaged, or may have found so in an earlier life after the same loss of power. They may have been written since.
func (s *Store) Doubtful(h Handle, f func(offset, length int64)) {
	r := s.table.Replica(uint32(h))
	if r == nil || !r.Lossy {
		return
	}
	if slices.Contains(s.lossy, uint32(h)) {
		s.Extents(h, 0, func(x ExtentInfo) bool {
			start := int64(x.Index) * layout.ExtentSize
			f(start, min(layout.ExtentSize, r.Size-start))
			return true
		})
		return
	}
	for _, d := range s.damaged {
		if d.Replica == uint32(h) {
			f(d.Offset, block)
		}
	}
}

// Tail appends the recent writes of a Replica, oldest first.
func (s *Store) Tail(h Handle, into []TailRecord) []TailRecord {
	r := s.table.Replica(uint32(h))
	if r == nil {
		return into
	}
	for _, t := range r.Tail(nil) {
		into = append(into, TailRecord{Seq: t.Seq, Epoch: t.Epoch, Offset: t.Offset, Length: int(t.Length)})
	}
	return into
}

// Extents calls f for each allocated Extent of a Replica from the one with index from on, until f returns false.
func (s *Store) Extents(h Handle, from uint32, f func(ExtentInfo) bool) {
	r := s.table.Replica(uint32(h))
	if r == nil {
		return
	}
	for i := from; i < uint32((r.Size+layout.ExtentSize-1)/layout.ExtentSize); i++ {
		x := s.table.Find(uint32(h), i)
		if x == extent.None {
			continue
		}
		if !f(ExtentInfo{Index: i, Epoch: s.table.Epoch(x), Digest: digest(s.table.Blocks(x))}) {
			return
		}
	}
}

// Written is the written-bitmap of a Replica's Extent.
func (s *Store) Written(h Handle, index uint32) bitmap.Bitmap {
	if x := s.find(uint32(h), index); x != extent.None {
		return s.table.Blocks(x).Written
	}
	return bitmap.Bitmap{}
}

func (s *Store) find(h, logical uint32) uint32 {
	if s.table.Replica(h) == nil {
		return extent.None
	}
	return s.table.Find(h, logical)
}

// digest is FNV-1a over the written-bitmap and the checksums of written Blocks.
func digest(b *layout.Blocks) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	sum := uint64(offset)
	for i := range layout.ExtentBlocks {
		if b.Has(i) {
			sum = (sum ^ uint64(i)) * prime
			sum = (sum ^ uint64(b.CRC[i])) * prime
		}
	}
	return sum
}

// CreateReplica reserves a Replica's space and makes it, full of zeros. Creating one that is there already, with the
// same size, succeeds. done is told when it is durable against the end of the process.
func (s *Store) CreateReplica(key ident.ReplicaKey, size int64, done func(Handle, error)) {
	refuse := func(err error) { s.later(func() { done(0, fmt.Errorf("create replica %s: %w", key, err)) }) }
	if h, ok := s.table.Lookup(key); ok {
		if s.table.Replica(h).Size != size {
			refuse(fmt.Errorf("it exists with %d bytes: %w", s.table.Replica(h).Size, ErrBounds))
			return
		}
		s.later(func() { done(Handle(h), nil) })
		return
	}
	promise := int64(float64(s.super.Capacity()) * max(s.o.Overcommit, 1))
	switch {
	case size <= 0 || size%ident.BlockSize != 0:
		refuse(ErrBounds)
		return
	case size > promise-s.table.Reserved:
		refuse(fmt.Errorf("%d of %d bytes are promised: %w", s.table.Reserved, promise, ErrNoSpace))
		return
	}
	h := s.table.NewHandle()
	if h == extent.None {
		refuse(ErrTooMany)
		return
	}
	s.create(h, key, size, done)
}

// DeleteReplica gives back all of a Replica's space. No IO of it may be in flight. An unknown one succeeds. done is
// told when a loss of power does not bring it back either: nobody may be left who knows that it is not wanted.
func (s *Store) DeleteReplica(key ident.ReplicaKey, done func(error)) {
	h, ok := s.table.Lookup(key)
	if !ok {
		s.flushMeta(done) // an earlier try may have got as far as here
		return
	}
	s.remove(h, func(err error) {
		if err != nil {
			done(err)
			return
		}
		s.flushMeta(done)
	})
}

// SetRecord makes a Replica remember a membership record.
func (s *Store) SetRecord(h Handle, m membership.Record, done func(error)) {
	s.setRecord(uint32(h), m, done)
}

// SetSound makes a Replica remember that it misses nothing any more that a loss of power may have taken from it.
func (s *Store) SetSound(h Handle, done func(error)) { s.setSound(uint32(h), done) }

// SetGeneration makes a Replica remember an attachment generation; lower ones are ignored.
func (s *Store) SetGeneration(h Handle, g ident.Generation, done func(error)) {
	s.setGeneration(uint32(h), g, done)
}

// Close writes a last Checkpoint and closes the Device. Whoever used the Store has seen the end of all that he began;
// what is submitted from now on is refused.
func (s *Store) Close() error {
	err := s.waitFor(func(done func(error)) {
		s.closing = true
		s.Checkpoint(done)
	})
	return errors.Join(err, s.device.Close())
}

// waitFor starts an operation inside the monitor and waits for its end outside.
func (s *Store) waitFor(start func(done func(error))) error {
	ended := make(chan error, 1)
	s.o.Owner.Enter()
	start(func(err error) { ended <- err })
	s.Kick()
	s.o.Owner.Leave()
	if s.o.Settle != nil {
		s.o.Settle()
	}
	return <-ended
}

func (s *Store) fail(err error) {
	if s.failed == nil {
		s.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		s.o.Log.Error("Device has failed and takes no writes any more", "path", s.Path(), "error", err)
	}
}

var _ io.ReaderAt = (*direct)(nil)
