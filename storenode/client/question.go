package client

import (
	"fmt"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// question is the one question for the map that may be on its way, besides probes and pleas. Under Volume.mu.
type question struct {
	// link it was sent by; nil if none is on its way.
	link *link
	// id of it; last is that of the last OPEN, whatever it was for.
	id, last ident.RequestID
	// when it was sent, in ticks.
	when int64
	// turn counts the storenodes that were asked or could not be.
	turn int
}

// ask asks for the map from s on, if it is time to, somebody other than the last time. Nil asks nothing.
func (v *Volume) ask(s *shard) {
	q := &v.question
	pause := int64(askTicks)
	if q.link != nil {
		pause = openTicks
	}
	if s == nil || v.now-q.when < pause {
		return
	}
	n := len(s.record.Replicas) + len(v.o.Addresses)
	for range n {
		p := v.candidate(s, q.turn%n)
		q.turn++
		if p == nil {
			continue
		}
		if !p.ready() {
			p.want()
			continue
		}
		if !v.sendOpen(p.link, s, 0) {
			continue
		}
		q.link, q.id, q.when = p.link, q.last, v.now
		s.asked = v.now
		return
	}
}

// sendOpen asks for the map from s on.
func (v *Volume) sendOpen(l *link, s *shard, flags wire.Flags) bool {
	v.question.last++
	f := transport.Frame{Header: wire.Header{
		Opcode: wire.OpOpen, Flags: flags, Request: v.question.last, Session: v.session, Generation: v.o.Generation,
		Shard: ident.ShardID{Volume: v.o.Volume, Index: s.index},
	}}
	if flags&wire.FlagUnreached != 0 {
		f.Epoch = s.record.Epoch
	}
	if l.conn.Send(&f) != nil {
		return false
	}
	v.touch(l)
	l.peer.asked = v.now
	v.o.Metrics.Asked.Add(1)
	return true
}

// probe asks a Primary that says nothing whether it is there: it may be about one long operation.
func (v *Volume) probe(s *shard) {
	p := s.primary
	if p == nil || !p.ready() || v.now-s.progress <= quietTicks || v.now-max(p.heard, p.asked) <= quietTicks {
		return
	}
	v.sendOpen(p.link, s, 0)
}

// plead tells all other Replicas of s that its Primary cannot be reached from here: one of them may take over. Who is
// not connected yet is told soon.
func (v *Volume) plead(s *shard) {
	if s == nil {
		return
	}
	s.plea = v.now + openTicks
	for _, r := range s.record.Replicas {
		if r.ID == s.record.Primary || r.Address == "" {
			continue
		}
		p := v.peerAt(r.Address)
		if !p.ready() {
			p.want()
			s.plea = v.now + askTicks
		} else if v.sendOpen(p.link, s, wire.FlagUnreached) {
			v.o.Metrics.Unreached.Add(1)
		}
	}
}

// candidate is the i-th of the Shard's Replicas and the addresses given to Open.
func (v *Volume) candidate(s *shard, i int) *peer {
	var address string
	if i < len(s.record.Replicas) {
		address = s.record.Replicas[i].Address
	} else {
		address = v.o.Addresses[i-len(s.record.Replicas)]
	}
	if address == "" {
		return nil
	}
	return v.peerAt(address)
}

// told takes a page of the map.
func (v *Volume) told(l *link, f *transport.Frame) error {
	if v.question.link == l && v.question.id == f.Request {
		v.question.link = nil
	}
	switch {
	case f.Status == wire.StatusFenced:
		v.fenced()
		return nil
	case f.Status != wire.StatusOK:
		return nil // the next one may know more
	case f.Payload == nil:
		return fmt.Errorf("map without content: %w", errRole)
	}
	var page wire.MapPage
	if err := page.Decode(f.Payload.Bytes()); err != nil {
		return err
	}
	if page.Volume != v.o.Volume || page.ShardSize != v.shardSize || int(page.Shards) < len(v.shards) {
		return fmt.Errorf("map of %s with shards of %d: %w", page.Volume, page.ShardSize, errRole)
	}
	for i, r := range page.Records {
		if at := int(page.First) + i; at < len(v.shards) {
			v.shards[at].adopt(r, true)
		}
	}
	return nil
}

// fenced ends the Volume because a storenode has said that it is of no use here any more.
func (v *Volume) fenced() {
	v.o.Log.Warn("The volume ends", "volume", v.o.Volume, "generation", v.o.Generation, "cause", ErrFenced)
	v.end(ErrFenced)
}

// surplus is a connection that was made to ask and is not used any more, or that a former Primary has left, and whether
// there are any that may become so. Nothing waits for an answer by it: adopt has made unsent what a former Primary had.
func (v *Volume) surplus() (unused transport.Conn, more bool) {
	for _, p := range v.peers {
		l := p.link
		if l == nil || p.primaries > 0 {
			continue
		}
		more = true
		if l.greeted && v.now-max(p.heard, p.asked) > unusedTicks {
			unused = l.conn
		}
	}
	return unused, more
}

// lateHello is a connection whose storenode does not say hello.
func (v *Volume) lateHello() transport.Conn {
	for _, p := range v.peers {
		if l := p.link; l != nil && l.conn != nil && !l.greeted && v.now-l.since > greetTicks {
			return l.conn
		}
	}
	return nil
}
