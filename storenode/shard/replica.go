package shard

import (
	"slices"
	"sync/atomic"

	"github.com/shale-storage/shale/storenode/budget"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/scrub"
	"github.com/shale-storage/shale/storenode/store"
	"github.com/shale-storage/shale/storenode/wire"
)

// replica drives the Machine of one local Replica. Everything in it belongs to its monitor, except view.
type replica struct {
	host    *Host
	monitor *Monitor
	key     ident.ReplicaKey
	handle  store.Handle
	size    int64
	machine *replication.Machine

	// touched: it is in the monitor's list of those to be driven. closed: it is not in service any more, because it is
	// being deleted, which has a deletion, or because its Device is out of service.
	touched, closed bool
	deletion        *deletion
	// inFlight counts what the Store has to do; drained are called, each once, when the last of it has ended.
	inFlight int
	drained  []func()

	// members are the other Replicas of the Record; former those of the Record before, as far as they are not.
	members, former []*member
	// reliance is the Primary that counts our storenode's promises.
	reliance reliance
	// ways are the connections by which requests of other Replicas came, for the answers.
	ways []way
	// view is for readers outside the monitor.
	view atomic.Pointer[view]
	tail []store.TailRecord
	// findings so far.
	findings Findings
	// pacer says when which Extent is scrubbed, nil while another is the Primary; scrubbing: one is.
	pacer     *scrub.Pacer
	scrubbing bool
	// estimate of when the Replica is in sync.
	estimate budget.Estimate
}

// member is another Replica of the Shard.
type member struct {
	id   ident.ReplicaID
	peer *peer
	// link is the connection that the Machine was told of; nil when it was told that there is none.
	link *link
	// incarnation is the process that the Machine was told of last.
	incarnation uint64
	// vouch is the connection on which it last answered that it knows us as the Primary; carried is what was promised on
	// the one before, to the same process.
	vouch   *link
	carried replication.Instant
	// served: we are its Primary, so its storenode's lease is needed. follows: it is ours, and we are InSync.
	served, follows bool
}

type way struct {
	from ident.ReplicaID
	link *link
}

// view is the newest Record, and the former Primary as long as it may not know of it.
type view struct {
	record membership.Record
	former ident.ReplicaID
	// address of the former Primary's storenode.
	address string
}

// touch has the Machine looked at before the monitor is left.
func (r *replica) touch() {
	if !r.touched {
		r.touched = true
		r.monitor.touched = append(r.monitor.touched, r)
	}
}

// drive does what the Machine has Ready, in the order that package replication asks for.
func (r *replica) drive() {
	for !r.closed {
		ready, ok := r.machine.Ready()
		if !ok {
			return
		}
		r.remember(ready)
		for _, op := range ready.Stores {
			r.submit(op)
		}
		for i := range ready.Sends {
			r.send(&ready.Sends[i])
		}
		for i := range ready.Findings {
			r.found(&ready.Findings[i])
		}
		if ready.Propose != nil {
			r.host.o.Authority.Propose(r.key.Shard, *ready.Propose)
		}
		r.machine.Done()
	}
}

func (r *replica) remember(ready *replication.Ready) {
	if ready.Record != nil {
		epoch := ready.Record.Epoch
		r.monitor.store.SetRecord(r.handle, *ready.Record, func(err error) {
			if r.closed {
				return
			}
			r.machine.Persisted(r.host.o.Clock(), epoch, err)
			r.touch()
		})
	}
	if ready.Sound {
		r.monitor.store.SetSound(r.handle, func(err error) {
			if err != nil {
				r.host.o.Log.Error("Could not remember that nothing is missing any more", "replica", r.key, "error", err)
			}
		})
	}
	if ready.Generation != 0 {
		r.monitor.store.SetGeneration(r.handle, ready.Generation, func(err error) {
			if err != nil {
				r.host.o.Log.Error("Could not remember an attachment's generation", "replica", r.key, "error", err)
			}
		})
	}
}

// step hands a message to the Machine. One that may bring another Record is taken while no promise is made.
func (r *replica) step(message *replication.Message) {
	now := r.host.o.Clock()
	if message.Opcode == wire.OpRecord || message.Status != wire.StatusOK {
		r.guarded(func() { r.machine.Step(now, message) })
	} else {
		r.machine.Step(now, message)
	}
	r.touch()
}

// adopt hands a Record to the Machine.
func (r *replica) adopt(record membership.Record) (err error) {
	if record.Epoch == 0 && r.machine.Record().Epoch == 0 {
		return nil
	}
	r.guarded(func() { err = r.machine.Adopt(r.host.o.Clock(), record) })
	r.touch()
	return err
}

// guarded runs what may make the Machine adopt a Record. If the Primary moves away from another storenode, that one is
// told on the connection on which we answer its heartbeats, before any later one is answered: it thus stops serving
// the Shard before its lease is renewed. Where that storenode is, it has told us itself, see reliance.
func (r *replica) guarded(event func()) {
	before := r.view.Load().record
	former := r.promisee(before.Primary)
	if former != nil {
		former.mu.Lock()
	}
	event()
	after := r.machine.Record()
	if after.Epoch == before.Epoch && sameAddresses(after, before) {
		if former != nil {
			former.mu.Unlock()
		}
		return
	}
	next := &view{record: after, former: r.view.Load().former, address: r.view.Load().address}
	if former != nil && after.Primary != before.Primary {
		next.former, next.address = before.Primary, former.address
	}
	r.view.Store(next)
	if former != nil {
		if after.Primary != before.Primary && former.in != nil {
			r.tellRecord(former.in, after, before.Primary)
			former.in.written(r.monitor)
		}
		former.mu.Unlock()
	}
	r.meet(after)
}

// tellRecord queues a Record for another Replica; a connection that cannot take it is closed, as nothing later may be
// answered on it then.
func (r *replica) tellRecord(l *link, record membership.Record, to ident.ReplicaID) {
	payload := r.Encode(wire.AppendRecord(nil, record))
	if payload == nil {
		l.close(errNoMemory)
		return
	}
	l.sendOne(wire.Header{
		Opcode: wire.OpRecord, Shard: r.key.Shard, Epoch: record.Epoch, From: r.key.Replica, To: to,
	}, bufferOf(payload))
}

// tellMembers tells what a Replica remembers that came into service while its storenode was promising already.
func (r *replica) tellMembers(record membership.Record) {
	if record.Epoch == 0 {
		return
	}
	for _, m := range r.members {
		m.peer.mu.Lock()
		if m.peer.in != nil {
			r.tellRecord(m.peer.in, record, m.id)
			m.peer.in.written(r.monitor)
		}
		m.peer.mu.Unlock()
	}
}

func sameAddresses(a, b membership.Record) bool {
	if len(a.Replicas) != len(b.Replicas) {
		return false
	}
	for i := range a.Replicas {
		if a.Replicas[i].Address != b.Replicas[i].Address {
			return false
		}
	}
	return true
}

// meet brings the members in line with a Record.
func (r *replica) meet(record membership.Record) {
	old := slices.Concat(r.members, r.former)
	r.members, r.former = nil, nil
	kept := map[*member]bool{}
	for _, c := range record.Replicas {
		if c.ID == r.key.Replica || c.Address == "" {
			continue
		}
		m := r.memberAt(old, c)
		kept[m] = true
		m.mark(record.Primary == r.key.Replica, record.Primary == c.ID && record.IsInSync(r.key.Replica), r)
		r.members = append(r.members, m)
	}
	for _, m := range old {
		switch {
		case kept[m]:
		case m.id == r.view.Load().former: // what was promised to it still counts
			m.mark(false, false, r)
			r.forgetLink(m)
			r.former = append(r.former, m)
		default:
			r.leave(m)
		}
	}
	for _, m := range r.members {
		r.sync(m)
	}
}

// memberAt is the member among old that is c, or a new one.
func (r *replica) memberAt(old []*member, c membership.Replica) *member {
	next := &member{id: c.ID}
	for _, m := range old {
		if m.id != c.ID {
			continue
		}
		if m.peer.address == c.Address {
			return m
		}
		next.incarnation = m.incarnation // whoever answers at the new place is another process
	}
	next.peer = r.host.refer(c.Address, r)
	return next
}

// mark keeps the peer's counts of who serves whom.
func (m *member) mark(served, follows bool, r *replica) {
	if !served {
		m.vouch, m.carried = nil, 0
	}
	if m.served == served && m.follows == follows {
		return
	}
	m.peer.count(step(m.served, served), step(m.follows, follows), r)
	m.served, m.follows = served, follows
}

func step(from, to bool) int {
	switch {
	case from == to:
		return 0
	case to:
		return 1
	}
	return -1
}

func (r *replica) leave(m *member) {
	m.mark(false, false, r)
	r.forgetLink(m)
	r.host.unrefer(m.peer, r)
}

func (r *replica) forgetLink(m *member) {
	if m.link != nil {
		m.link = nil
		r.machine.Disconnected(r.host.o.Clock(), m.id)
		r.touch()
	}
}

// sync tells the Machine if the connection to a member is another than it knows.
func (r *replica) sync(m *member) {
	now := r.host.o.Clock()
	current := m.peer.link()
	if current == m.link {
		return
	}
	if m.link != nil {
		m.link = nil
		r.machine.Disconnected(now, m.id)
	}
	if current != nil {
		restarted := m.incarnation != 0 && m.incarnation != current.incarnation
		m.link, m.incarnation = current, current.incarnation
		r.machine.Connected(now, m.id, restarted)
		if m.peer.isLeaving() {
			r.machine.Leaves(now, m.id)
		}
	}
	r.touch()
}

// syncPeer is sync for all members at one storenode.
func (r *replica) syncPeer(p *peer) {
	r.monitor.Enter()
	defer r.monitor.Leave()
	if r.closed {
		return
	}
	for _, m := range r.members {
		if m.peer == p {
			r.sync(m)
		}
	}
}

// wake lets the Machine see that a lease holds again.
func (r *replica) wake() {
	r.monitor.Enter()
	defer r.monitor.Leave()
	if !r.closed {
		r.machine.Tick(r.host.o.Clock())
		r.touch()
	}
}

// tick lets time pass.
func (r *replica) tick(now replication.Instant) (busy bool) {
	if r.closed {
		return false
	}
	r.scrubOn(now)
	if !r.machine.Busy() {
		return false
	}
	r.machine.Tick(now)
	r.touch()
	return true
}

// close takes the Replica out of service, if it is in it; then is called once nothing of it is in flight. Several may
// ask: a Device is removed while a Replica is being deleted from it.
func (r *replica) close(then func()) {
	if !r.closed {
		r.shut()
	}
	r.drained = append(r.drained, then)
	r.drain()
}

func (r *replica) shut() {
	for _, m := range slices.Concat(r.members, r.former) {
		r.leave(m)
	}
	r.members, r.former = nil, nil
	r.disappoint()
	r.closed = true
	r.scrubbed()
	r.machine.Close()
}

// drain tells who waits for the end of what is in flight. If one begins something, those behind it wait for that too.
func (r *replica) drain() {
	for r.inFlight == 0 && len(r.drained) > 0 {
		then := r.drained[0]
		r.drained = r.drained[1:]
		then()
	}
}

func (r *replica) member(id ident.ReplicaID) *member {
	for _, m := range r.members {
		if m.id == id {
			return m
		}
	}
	for _, m := range r.former {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (r *replica) peerOf(id ident.ReplicaID) *peer {
	if m := r.member(id); m != nil {
		return m.peer
	}
	return nil
}

// came notes by which connection requests of another Replica come.
func (r *replica) came(from ident.ReplicaID, l *link) {
	for i := range r.ways {
		if r.ways[i].from == from {
			r.ways[i].link = l
			return
		}
	}
	if len(r.ways) == membership.MaxReplicas {
		r.ways = append(r.ways[:0], r.ways[1:]...)
	}
	r.ways = append(r.ways, way{from: from, link: l})
}

// linkFor is the connection for a message, nil if there is none.
func (r *replica) linkFor(message *replication.Message) *link {
	if message.Route != nil {
		return message.Route.(*link)
	}
	if !message.IsReply() {
		if m := r.member(message.To); m != nil {
			return m.link
		}
		return nil
	}
	for i := range r.ways {
		if r.ways[i].from == message.To {
			return r.ways[i].link
		}
	}
	return nil
}

// send passes a message of the Machine on.
func (r *replica) send(message *replication.Message) {
	payload := bufferOf(message.Payload)
	l := r.linkFor(message)
	if l == nil {
		if payload != nil {
			payload.Release()
		}
		return
	}
	f := &r.monitor.frame
	f.Header, f.Payload = message.Header, payload
	f.Shard = r.key.Shard
	if message.Route == nil {
		f.From = r.key.Replica
	}
	if l.send(f) {
		l.written(r.monitor)
	}
	f.Payload = nil
}
