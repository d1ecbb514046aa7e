package client

import (
	"fmt"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// question is the one question for the map that may be on its way. Under Volume.mu.
type question struct {
	// link it was sent by; nil if none is on its way.
	link *link
	id   ident.RequestID
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
		q.id++
		f := transport.Frame{Header: wire.Header{
			Opcode: wire.OpOpen, Request: q.id, Session: v.session, Generation: v.o.Generation,
			Shard: ident.ShardID{Volume: v.o.Volume, Index: s.index},
		}}
		if s.unreached() {
			f.Flags, f.Epoch = wire.FlagUnreached, s.record.Epoch
			v.o.Metrics.Unreached.Add(1)
		}
		if p.link.conn.Send(&f) != nil {
			continue
		}
		v.touch(p.link)
		q.link, q.when = p.link, v.now
		s.asked = v.now
		v.o.Metrics.Asked.Add(1)
		return
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

// lateHello is a connection whose storenode does not say hello.
func (v *Volume) lateHello() transport.Conn {
	for _, p := range v.peers {
		if l := p.link; l != nil && l.conn != nil && !l.greeted && v.now-l.since > greetTicks {
			return l.conn
		}
	}
	return nil
}
