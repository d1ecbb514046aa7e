package client

import (
	"slices"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// shard is one Shard: who serves it and what is in flight. Everything is under Volume.mu.
type shard struct {
	volume *Volume
	index  uint32
	// record is the newest known, primary where its Primary lives; nil if there is none or it lives nowhere.
	record  membership.Record
	primary *peer

	// numbered holds the parts with a number, at number modulo window. Numbers in [lowest, next) may be there. Made at
	// the first use.
	numbered     []*part
	lowest, next ident.RequestID
	// outstanding counts numbered parts.
	outstanding int
	// queue holds parts that found no number.
	queue partList

	// written counts acknowledged changes; flushed is what it was when the newest acknowledged flush began.
	written, flushed uint64
	// unflushed: in Volume.unflushed. active: in Volume.active.
	unflushed, active bool

	// progress is the tick of the last outcome, or of the first part after idleness. asked: of the last question. plea is
	// the tick before which the other Replicas are not told again that the Primary cannot be reached.
	progress, asked, plea int64
	// short: the last change that was answered was refused because too few Replicas are in sync.
	short bool
	// reason why parts wait, for the log.
	reason string
}

// add takes a new part.
func (s *shard) add(p *part) {
	if !s.active {
		s.active = true
		s.volume.active = append(s.volume.active, s)
	}
	if s.queue.head != nil || !s.number(p) {
		s.queue.push(p)
		return
	}
	s.send(p)
}

// number gives p a number, unless the window is full.
func (s *shard) number(p *part) bool {
	if s.next-s.lowest >= window {
		return false
	}
	if s.numbered == nil {
		s.numbered = make([]*part, window)
	}
	p.id = s.next
	s.numbered[p.id%window] = p
	s.next++
	if s.outstanding == 0 {
		s.progress = s.volume.now
	}
	s.outstanding++
	return true
}

// find is the part with that number, or nil.
func (s *shard) find(id ident.RequestID) *part {
	if s.numbered == nil {
		return nil
	}
	if p := s.numbered[id%window]; p != nil && p.id == id {
		return p
	}
	return nil
}

// drop ends the use of p's number.
func (s *shard) drop(p *part) {
	s.numbered[p.id%window] = nil
	s.outstanding--
	for s.lowest < s.next && s.numbered[s.lowest%window] == nil {
		s.lowest++
	}
}

// pump numbers and sends what waits, as far as the window goes.
func (s *shard) pump() {
	for s.queue.head != nil && s.number(s.queue.head) {
		s.send(s.queue.pop())
	}
}

// send sends p to the Primary, and reports false if that is not possible now.
func (s *shard) send(p *part) bool {
	l := s.link()
	if l == nil {
		return false
	}
	v, r := s.volume, p.request
	f := &v.frame
	f.Payload = nil
	if r.Op == OpWrite {
		if f.Payload = v.payload(p); f.Payload == nil {
			s.reason = "no memory for a part of a request"
			return false
		}
	}
	f.Header = wire.Header{
		Opcode: r.Op.opcode(), Length: uint32(p.length), Request: p.id, Session: v.session,
		Shard: ident.ShardID{Volume: v.o.Volume, Index: s.index}, Epoch: s.record.Epoch, Generation: v.o.Generation,
		Offset: p.offset, Committed: ident.Seq(s.lowest),
	}
	if r.FUA {
		f.Flags = wire.FlagFUA
	}
	if l.conn.Send(f) != nil {
		return false // the connection is dead; its Closed will come
	}
	if p.sent != 0 {
		v.o.Metrics.Resends.Add(1)
	}
	p.link, p.sent, p.epoch = l, v.now, s.record.Epoch
	v.touch(l)
	return true
}

// link is the connection to the Primary, nil while there is none. It then sees to it that one is made.
func (s *shard) link() *link {
	switch {
	case s.primary == nil:
		s.reason = "no primary is known"
		return nil
	case s.primary.ready():
		return s.primary.link
	}
	s.reason = "no connection to the primary"
	s.primary.want()
	return nil
}

// resume sends what is to be sent and due, in the order of the numbers. A part that has no memory stays behind alone:
// parts of a Shard that is away may have all there is.
func (s *shard) resume() {
	now, again := s.volume.now, lostBatch
	for id := s.lowest; id < s.next; id++ {
		p := s.find(id)
		if p == nil {
			continue
		}
		if p.link != nil && now-p.sent > lostTicks && again > 0 {
			again--
			p.link, p.refused = nil, 0
		}
		if p.link == nil && p.retry <= now && !s.send(p) && s.link() == nil {
			return
		}
	}
	s.pump()
}

// lost makes everything that was sent by l unsent, and counts it. Whether l still delivers it is not known: see tooFew.
func (s *shard) lost(l *link) int {
	n := 0
	for id := s.lowest; id < s.next; id++ {
		if p := s.find(id); p != nil && p.link == l {
			p.link, p.refused = nil, 0
			n++
		}
	}
	return n
}

// later makes p wait after it was refused for now.
func (s *shard) later(p *part, reason string) { s.pause(p, p.pause+1, busyTicks, reason) }

// pause makes p wait for so many ticks, or the limit of them.
func (s *shard) pause(p *part, ticks, limit int64, reason string) {
	p.pause = min(ticks, limit)
	p.link, p.retry = nil, s.volume.now+p.pause
	s.reason = reason
}

// enough Replicas are in sync again: what waited for that goes on at once, in order.
func (s *shard) enough() {
	s.short = false
	s.volume.o.Log.Info("Changes go on", "volume", s.volume.o.Volume, "shard", s.index)
	s.hasten()
	s.resume()
}

// hasten ends all pauses.
func (s *shard) hasten() {
	for id := s.lowest; id < s.next; id++ {
		if p := s.find(id); p != nil {
			p.retry, p.pause = 0, 0
		}
	}
}

// adopt takes a record that somebody told. A lower Epoch is ignored; the same one may only move Replicas, and is
// believed in that only from who tells maps. It reports whether anything changed.
func (s *shard) adopt(r membership.Record, tellsMaps bool) bool {
	old := s.record
	moved := tellsMaps && r.Epoch == old.Epoch && r.Primary == old.Primary && !slices.Equal(r.Replicas, old.Replicas)
	if r.Epoch <= old.Epoch && !moved {
		return false
	}
	s.record = r
	s.resolve()
	for id := s.lowest; id < s.next; id++ {
		p := s.find(id)
		if p == nil {
			continue
		}
		p.retry, p.pause = 0, 0
		if p.link != nil && p.link.peer != s.primary {
			p.link = nil
		}
	}
	s.resume()
	return true
}

// resolve finds the place of the Primary. A new one has as long to be reached as the last.
func (s *shard) resolve() {
	old := s.primary
	if s.primary != nil {
		s.primary.primaries--
		s.primary = nil
	}
	if c, ok := s.record.Find(s.record.Primary); ok && c.Address != "" {
		s.primary = s.volume.peerAt(c.Address)
		s.primary.primaries++
	}
	if s.primary != old {
		s.plea = s.volume.now + pleadTicks
	}
}

// troubled says that somebody should be asked who the Primary is.
func (s *shard) troubled() bool {
	return s.outstanding > 0 && (s.primary == nil || s.primary.failures > 0 && !s.primary.ready() ||
		s.volume.now-s.progress > quietTicks)
}

// unreached says that the Primary is known and cannot be reached from here. Others may reach it, so that nobody
// replaces it unless they are told; it is time to.
func (s *shard) unreached() bool {
	now := s.volume.now
	return s.outstanding > 0 && s.primary != nil && now-s.progress > pleadTicks && now-s.primary.heard > pleadTicks &&
		now >= s.plea
}

// stalled says that the Shard makes no progress.
func (s *shard) stalled() bool { return s.outstanding > 0 && s.volume.now-s.progress > stallTicks }

// idle says that nothing is in flight.
func (s *shard) idle() bool { return s.outstanding == 0 && s.queue.head == nil }

// payload is the memory to send for a part of a write, with a reference of its own; nil while there is none.
func (v *Volume) payload(p *part) *buffer.Buffer {
	r := p.request
	if p.length == r.Length {
		r.Buffer.Retain()
		return r.Buffer
	}
	if p.copied == nil {
		if v.copies > 0 && v.copies+p.length > v.copyLimit {
			return nil
		}
		b := v.o.Pool.Get(p.length)
		if b == nil {
			return nil
		}
		copy(b.Bytes(), r.Buffer.Bytes()[p.at:])
		v.copies += b.Cap()
		p.copied = b
	}
	p.copied.Retain()
	return p.copied
}

// dropCopy gives the memory of payload back.
func (v *Volume) dropCopy(p *part) {
	if p.copied != nil {
		v.copies -= p.copied.Cap()
		p.copied.Release()
		p.copied = nil
	}
}
