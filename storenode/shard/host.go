package shard

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shale-storage/shale/storenode/budget"
	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/store"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// MaxRebuilds bounds the parts of Extents that a storenode copies to others at a time.
	MaxRebuilds = 16
	// ticksPerHeartbeat is how finely time passes while something is waited for.
	ticksPerHeartbeat = 4
	// maxSpan bounds the length of a discard or zeroes, in bytes.
	maxSpan = store.MaxSpan
)

// Options of a Host. All are required but ScrubPass, Calendar and MaxClients.
type Options struct {
	// Name of the node, for logs; Address is host:port at which this storenode is reached.
	Name, Address string
	// Incarnation is drawn at random by each process; not 0.
	Incarnation uint64
	Authority   Authority
	Dialer      Dialer
	// Pool is the memory for payloads; who gets how much of it, admits says.
	Pool   *buffer.Pool
	Timing replication.Timing
	// ScrubPass is how long the Primaries here take to look through all of their Shards; 0 for none.
	ScrubPass time.Duration
	// Clock reads the monotonic clock. Calendar is the time since the Unix epoch at which it read 0: when which Extent is
	// scrubbed hangs on that, so a wrong one does no harm.
	Clock    func() replication.Instant
	Calendar time.Duration
	Log      *slog.Logger
	// MaxClients bounds the connections of clients, so that other storenodes find a place beside them; 0 for no bound.
	MaxClients int
}

// Host serves the Shards of one storenode. It implements Manager.
type Host struct {
	o Options
	// started is when this process began: before, a former one may have promised anything.
	started replication.Instant
	// forgotten is the last promise made to a peer that is not known any more.
	forgotten mark
	rebuilds  atomic.Int32
	pace      pace
	closing   atomic.Bool
	// held is the part of the Pool that Devices hold, those included that are going out of service, in bytes.
	held atomic.Int64
	// leaving: this storenode is about to end.
	leaving atomic.Bool

	// mu guards what follows; taken inside monitors, never around them.
	mu       sync.RWMutex
	monitors []*Monitor
	// replicas in the order of their making, and by Shard.
	replicas []*replica
	shards   map[ident.ShardID][]*replica
	// doomed are Replicas that are being deleted, until they are gone for good.
	doomed   []*replica
	peers    map[string]*peer
	peerList []*peer
	inbound  []*link
	clients  clients
	volumes  map[ident.UUID]*volume
	// retired are the Volumes that were, in that order.
	retired []ident.UUID

	// silence is what Authority was told last; only Tick touches it.
	silence []string
}

var _ Manager = (*Host)(nil)

// New makes a Host without Devices.
func New(o Options) *Host {
	h := &Host{
		o: o, shards: map[ident.ShardID][]*replica{}, peers: map[string]*peer{},
		volumes: map[ident.UUID]*volume{},
	}
	h.started = o.Clock()
	h.forgotten.raise(h.started)
	h.pace.budget = budget.New(time.Duration(h.started))
	return h
}

// Monitor makes the Owner for a Device that is about to be opened.
func (h *Host) Monitor() *Monitor { return &Monitor{host: h} }

// Accept makes the Handler of a connection that was accepted.
func (h *Host) Accept(c transport.Conn) (transport.Handler, error) {
	if h.closing.Load() {
		return nil, transport.ErrClosed
	}
	l := &link{host: h, conn: c}
	h.mu.Lock()
	h.inbound = append(h.inbound, l)
	h.mu.Unlock()
	return l, nil
}

// gone is the end of a connection.
func (h *Host) gone(l *link) {
	if l.outbound {
		return
	}
	h.mu.Lock()
	h.inbound = slices.DeleteFunc(h.inbound, func(other *link) bool { return other == l })
	if l.client {
		h.clients.open--
	}
	h.mu.Unlock()
}

// logRefused is how long nothing is logged after a client was refused, as it comes again and again.
const logRefused = time.Second

// clients are the connections of clients; under Host.mu.
type clients struct {
	open int
	// refused counts those that found no place; told is when that was logged last.
	refused uint64
	told    replication.Instant
}

// seat gives a connection one of the places of clients, until it is gone.
func (h *Host) seat(l *link) error {
	h.mu.Lock()
	if h.o.MaxClients == 0 || h.clients.open < h.o.MaxClients {
		h.clients.open++
		l.client = true
		h.mu.Unlock()
		return nil
	}
	h.clients.refused++
	count, now := h.clients.refused, h.o.Clock()
	tell := count == 1 || now >= h.clients.told.After(logRefused)
	if tell {
		h.clients.told = now
	}
	h.mu.Unlock()
	if tell {
		h.o.Log.Warn("Refused a client: clients have all the connections they may have; the rest is for storenodes",
			"remote", l.conn.Remote(), "limit", h.o.MaxClients, "count", count)
	}
	return errClients
}

// called is the Hello of another storenode that connected to us.
func (h *Host) called(l *link, hello *wire.Hello) {
	h.mu.Lock()
	p := h.peerLocked(hello.Address)
	l.peer = p
	older, stale := p.calledBy(l, hello.Incarnation) // before anybody may forget the peer
	h.mu.Unlock()
	if older != nil {
		older.close(errSuperseded)
	}
	if stale != nil {
		stale.close(errRestarted)
	}
	l.sendHello(wire.FlagReply)
	h.tellRecords(p, l)
	l.flush()
}

// AddDevice implements Manager. The Store's Owner must be a Monitor of this Host. Its Replicas start with the Record
// they remember and follow nobody. One of a UUID that is in service already is refused: of two Stores for one Device,
// one would answer with what the other has forgotten.
func (h *Host) AddDevice(s *store.Store) error {
	m, ok := s.Owner().(*Monitor)
	if !ok || m.host != h {
		return fmt.Errorf("add device %s: %w", s.Device(), errForeignStore)
	}
	m.Enter()
	defer m.Leave()
	if m.store != nil {
		return fmt.Errorf("add device %s: %w", s.Device(), errForeignStore)
	}
	if !h.enlist(m, s) {
		return fmt.Errorf("add device %s from %s: %w", s.Device(), s.Path(), ErrInService)
	}
	for _, info := range s.Replicas() {
		handle, _ := s.Lookup(info.Key)
		h.add(m, handle, info)
	}
	return nil
}

// enlist puts the Store's Device among those in service, unless one of its UUID is. Look and entry are one step, for
// two that are being added at once.
func (h *Host) enlist(m *Monitor, s *store.Store) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, other := range h.monitors {
		if other.store.Device() == s.Device() {
			return false
		}
	}
	m.store = s
	h.monitors = append(h.monitors, m)
	return true
}

// ErrInService refuses a Device of which there is another in service: a copy, or the same SSD by a second path.
var ErrInService = errors.New("a device with this UUID is in service already")

// errForeignStore refuses a Store that another Host, or nobody, moves.
var errForeignStore = errors.New("the store was not opened with a monitor of this host of its own")

// RemoveDevice implements Manager: the Device's Replicas are served no more, and its Store may be closed afterwards.
func (h *Host) RemoveDevice(device ident.UUID) error {
	done := make(chan struct{})
	h.RemoveDeviceAsync(device, func() { close(done) })
	<-done
	return nil
}

// RemoveDeviceAsync is RemoveDevice for who must not wait.
func (h *Host) RemoveDeviceAsync(device ident.UUID, done func()) {
	m := h.monitorOf(device)
	if m == nil {
		done()
		return
	}
	m.Enter()
	defer m.Leave()
	// All inside the monitor: what is made or deleted at the same time is so before or after the whole.
	here := h.strike(m)
	left := len(here) + 1
	one := func() {
		if left--; left == 0 {
			done()
		}
	}
	for _, r := range here {
		h.drop(r)
		r.close(one)
	}
	one()
}

// strike takes a Monitor off those in service, and tells which Replicas it has.
func (h *Host) strike(m *Monitor) (here []*replica) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.monitors = slices.DeleteFunc(h.monitors, func(other *Monitor) bool { return other == m })
	for _, r := range slices.Concat(h.replicas, h.doomed) {
		if r.monitor == m {
			here = append(here, r)
		}
	}
	return here
}

// serves reports whether a Monitor's Device is in service.
func (h *Host) serves(m *Monitor) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Contains(h.monitors, m)
}

// errRemoved says that a Device is not in service any more, so nothing of it can be changed.
var errRemoved = errors.New("its device was taken out of service meanwhile")

// monitorOf finds the monitor of a Device in service.
func (h *Host) monitorOf(device ident.UUID) *Monitor {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, m := range h.monitors {
		if m.store.Device() == device {
			return m
		}
	}
	return nil
}

// add takes a Replica into service, inside its monitor.
func (h *Host) add(m *Monitor, handle store.Handle, info store.ReplicaInfo) *replica {
	r := &replica{host: h, monitor: m, key: info.Key, handle: handle, size: info.Size}
	r.view.Store(&view{record: info.Record})
	r.machine = replication.New(replication.Config{
		Self: info.Key, Size: info.Size, Record: info.Record, Generation: info.Generation,
		Life: m.store.Life(), Environment: r, Timing: h.o.Timing,
	})
	h.mu.Lock()
	h.replicas = append(h.replicas, r)
	h.shards[info.Key.Shard] = append(h.shards[info.Key.Shard], r)
	h.mu.Unlock()
	if h.leaving.Load() {
		r.machine.Leave(h.o.Clock())
	}
	r.meet(info.Record)
	r.tellMembers(info.Record)
	r.machine.Introduced(h.o.Clock())
	r.touch()
	return r
}

// drop takes a Replica out of the Host's lists.
func (h *Host) drop(r *replica) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(r)
}

func (h *Host) dropLocked(r *replica) {
	same := func(other *replica) bool { return other == r }
	h.replicas = slices.DeleteFunc(slices.Clone(h.replicas), same)
	h.doomed = slices.DeleteFunc(slices.Clone(h.doomed), same)
	left := slices.DeleteFunc(slices.Clone(h.shards[r.key.Shard]), same)
	if len(left) == 0 {
		delete(h.shards, r.key.Shard)
		return
	}
	h.shards[r.key.Shard] = left
}

// doom takes a Replica out of service that is being deleted.
func (h *Host) doom(r *replica) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(r)
	h.doomed = append(h.doomed, r)
}

// lookup finds the Replica that a frame is for. Clients name none; they mean the Primary.
func (h *Host) lookup(shard ident.ShardID, id ident.ReplicaID) *replica {
	h.mu.RLock()
	here := h.shards[shard]
	h.mu.RUnlock()
	if id == 0 {
		for _, r := range here {
			if r.view.Load().record.Primary == r.key.Replica {
				return r
			}
		}
		if len(here) > 0 {
			return here[0]
		}
	}
	for _, r := range here {
		if r.key.Replica == id {
			return r
		}
	}
	return nil
}

// encode puts an encoded structure into memory for a frame; nil when there is none.
func (h *Host) encode(encoded []byte) *buffer.Buffer {
	if len(encoded) > buffer.MaxSize {
		return nil
	}
	b := h.o.Pool.Get(len(encoded))
	if b != nil {
		copy(b.Bytes(), encoded)
	}
	return b
}

// Tick lets time pass, and says when it wants to be called again.
func (h *Host) Tick() (next time.Duration) {
	now := h.o.Clock()
	h.mu.RLock()
	monitors, peers := slices.Clone(h.monitors), slices.Clone(h.peerList)
	replicas := h.replicas
	h.mu.RUnlock()
	next = h.o.Timing.Heartbeat
	for _, m := range monitors {
		m.Enter()
		m.sick.look(now, m.inFlight)
		if m.store != nil {
			m.store.Rest()
		}
		h.pace.observe(now, &m.latencies)
		for _, r := range replicas {
			if r.monitor == m && r.tick(now) {
				next = h.o.Timing.Heartbeat / ticksPerHeartbeat
			}
		}
		m.Leave()
	}
	for _, p := range peers {
		h.settlePeer(p, now)
		if l := p.stuck(now); l != nil {
			l.close(errUnanswered)
		}
		p.beat(now)
		if p.link() == nil {
			next = h.o.Timing.Heartbeat / ticksPerHeartbeat
		}
	}
	h.tellSilence(peers, now)
	return next
}

func (h *Host) tellSilence(peers []*peer, now replication.Instant) {
	var silent []string
	for _, p := range peers {
		if p.silent(now) {
			silent = append(silent, p.address)
		}
	}
	slices.Sort(silent)
	if slices.Equal(silent, h.silence) {
		return
	}
	h.silence = silent
	h.o.Log.Info("Storenodes that serve us are silent", "addresses", silent)
	h.o.Authority.Unreachable(slices.Clone(silent))
}

// Close ends all connections and makes no new ones. Devices are to be removed before or after.
func (h *Host) Close() {
	h.closing.Store(true)
	h.mu.RLock()
	peers := slices.Clone(h.peerList)
	inbound := slices.Clone(h.inbound)
	h.mu.RUnlock()
	for _, p := range peers {
		p.closeLinks(transport.ErrClosed)
	}
	for _, l := range inbound {
		l.close(transport.ErrClosed)
	}
}
