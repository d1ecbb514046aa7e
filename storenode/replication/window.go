package replication

import (
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// sequence is a Primary's window: which operation has which Seq. Everything up to floor is on all InSync Replicas.
type sequence struct {
	next, floor ident.Seq
	// jump is a number that the next Seq must exceed: a joining Replica has seen it in a reign nobody else remembers.
	jump ident.Seq
	ring [MaxWindow]*operation
}

// begin starts a reign behind all numbers seen.
func (s *sequence) begin(last ident.Seq) {
	*s = sequence{next: last + 1, floor: last}
}

func (s *sequence) empty() bool { return s.floor+1 == s.next }

// room reports whether n more numbers fit. A jump is made when nothing is in the window, so that it leaves no gap
// there.
func (s *sequence) room(n int) bool {
	if s.jump >= s.next {
		if !s.empty() {
			return false
		}
		s.next, s.floor = s.jump+1, s.jump
	}
	return s.next+ident.Seq(n)-1 <= s.floor+MaxWindow
}

// take gives an operation the next n numbers.
func (s *sequence) take(o *operation, n int) {
	o.seq, o.seqs = s.next, n
	for range n {
		s.ring[s.next%MaxWindow] = o
		s.next++
	}
}

// done ends an operation's numbers.
func (s *sequence) done(o *operation) {
	for i := range o.seqs {
		s.ring[(o.seq+ident.Seq(i))%MaxWindow] = nil
	}
	for s.floor+1 < s.next && s.ring[(s.floor+1)%MaxWindow] == nil {
		s.floor++
	}
}

// find is the operation that has the Seq, nil if none has it now.
func (s *sequence) find(seq ident.Seq) *operation {
	if o := s.ring[seq%MaxWindow]; o != nil && o.seq == seq {
		return o
	}
	return nil
}

// verdict is what a Backup makes of a Seq.
type verdict uint8

const (
	// fresh: to be applied.
	fresh verdict = iota + 1
	// running: being applied; its end will be answered.
	running
	// repeated: was applied; the outcome is answered again.
	repeated
	// passed: so old that the Primary does not wait for it any more.
	passed
)

// arrivals is a Backup's window: what it has seen of the reign it follows. A Seq, and a step within it, is applied at
// most once. No floor is told: a Primary never has a Seq in flight that is MaxWindow below another.
type arrivals struct {
	top  ident.Seq
	ring [MaxWindow]arrival
}

type arrival struct {
	seq     ident.Seq
	step    uint64
	running bool
	status  wire.Status
}

// admit judges a step of a Seq; one that is fresh is running from now on.
func (a *arrivals) admit(seq ident.Seq, step uint64) (verdict, wire.Status) {
	if seq+MaxWindow <= a.top {
		return passed, wire.StatusOK
	}
	x := &a.ring[seq%MaxWindow]
	switch {
	case x.seq != seq:
	case step < x.step:
		return passed, wire.StatusOK
	case x.running:
		return running, wire.StatusOK
	case step == x.step:
		return repeated, x.status
	}
	*x = arrival{seq: seq, step: step, running: true}
	a.top = max(a.top, seq)
	return fresh, wire.StatusOK
}

// end notes the outcome.
func (a *arrivals) end(seq ident.Seq, step uint64, status wire.Status) {
	x := &a.ring[seq%MaxWindow]
	if x.seq == seq && x.step == step {
		x.running, x.status = false, status
	}
}

// undo forgets a step that was not applied, so that it is fresh when it is told again.
func (a *arrivals) undo(seq ident.Seq, step uint64) {
	x := &a.ring[seq%MaxWindow]
	switch {
	case x.seq != seq || x.step != step:
	case step == 0:
		*x = arrival{}
	default:
		x.step, x.running = step-1, false
	}
}

// session is what a Primary remembers of a client, so that a request sent again is not carried out again.
type session struct {
	id ident.SessionID
	// floor: the client waits for no lower request.
	floor ident.RequestID
	// inFlight requests; a session that has some is not forgotten.
	inFlight int
	// used is when it was last asked for, in requests of the Machine.
	used  uint64
	slots [SessionWindow]slot
}

// slot is one request: in flight while operation is set, else ended with status.
type slot struct {
	id        ident.RequestID
	operation *operation
	status    wire.Status
}

// sessions are those remembered, in the order they were made.
type sessions struct {
	all  []*session
	uses uint64
}

// find is the session, made if need be at the cost of the one unused for longest; nil when all have requests in flight.
func (s *sessions) find(id ident.SessionID) *session {
	s.uses++
	var oldest *session
	for _, x := range s.all {
		if x.id == id {
			x.used = s.uses
			return x
		}
		if x.inFlight == 0 && (oldest == nil || x.used < oldest.used) {
			oldest = x
		}
	}
	if len(s.all) < MaxSessions {
		oldest = &session{}
		s.all = append(s.all, oldest)
	}
	if oldest != nil {
		*oldest = session{id: id, used: s.uses}
	}
	return oldest
}

// forget drops everything: requests of a former reign are judged anew.
func (s *sessions) forget() { s.all = s.all[:0] }

// judge is what to make of a request: fresh, running, repeated with an outcome, or passed.
func (x *session) judge(id, floor ident.RequestID) (verdict, *slot) {
	x.floor = max(x.floor, floor)
	sl := &x.slots[id%SessionWindow]
	switch {
	case id < x.floor || id < sl.id:
		return passed, sl
	case sl.id != id:
		if sl.operation != nil {
			return passed, sl // the client exceeds its window; it asks again
		}
		return fresh, sl
	case sl.operation != nil:
		return running, sl
	}
	return repeated, sl
}

// begin notes that a fresh request is in flight.
func (x *session) begin(id ident.RequestID, o *operation) {
	x.slots[id%SessionWindow] = slot{id: id, operation: o}
	x.inFlight++
	o.session = x
}

// end notes the outcome of a request, or, if it has none, that it never was.
func (x *session) end(id ident.RequestID, status wire.Status, remembered bool) {
	sl := &x.slots[id%SessionWindow]
	if sl.id != id || sl.operation == nil {
		return
	}
	x.inFlight--
	sl.operation, sl.status = nil, status
	if !remembered {
		sl.id = 0
	}
}
