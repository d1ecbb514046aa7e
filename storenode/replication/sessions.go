package replication

import (
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

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
