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
