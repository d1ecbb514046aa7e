package sim_test

import (
	"slices"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// attach is the move of the Volume to another node, or another life of the initiator: the generation is raised, and the
// clients open their Shards anew. What was outstanding may have been carried out, or not. Often the former attachment
// lives on for a while, and does not know that it was replaced.
func (w *world) attach() {
	w.session++
	w.generation++
	w.logf("clients attach as session %d", w.session)
	for _, c := range w.clients {
		for _, q := range c.pending {
			for i := range q.versions {
				c.oracle.Block(q.block(i)).Busy = false
			}
		}
		if w.chance(70) {
			c.live()
		}
		c.pending, c.last, c.opened = nil, 0, false
		for i, k := range c.conns {
			if k != nil && k.conn != nil && k.owner == connOwner(c) && w.chance(50) {
				k.conn.Close(errBroken)
			}
			c.conns[i] = nil
		}
		c.open()
	}
}

// open begins an attachment in two steps: OPEN tells the map and fences the Replicas of one node, and a FLUSH by the
// Primary those of all others. When that has ended, nothing of an older attachment is taken any more.
func (c *client) open() {
	c.ask(&request{header: wire.Header{Opcode: wire.OpOpen}})
}

func (c *client) ask(q *request) {
	c.last++
	h := &q.header
	h.Session, h.Request, h.Generation = ident.SessionID(c.w.session), c.last, ident.Generation(c.w.generation)
	h.Shard = shardID(c.index)
	q.begun = c.w.t
	c.pending = append(c.pending, q)
	c.send(q)
}

// mapped takes the answer to OPEN.
func (c *client) mapped(f *transport.Frame) {
	var page wire.MapPage
	if err := page.Decode(f.Payload.Bytes()); err != nil || len(page.Records) == 0 {
		c.w.failf("client: %d records in a map, error %v", len(page.Records), err)
		return
	}
	if page.Records[0].Epoch > c.record.Epoch {
		c.record = page.Records[0]
	}
	q := &request{header: wire.Header{Opcode: wire.OpFlush}, opens: true}
	c.cover(q)
	c.ask(q)
}

// former is an attachment that was replaced and goes on: it sends again what was not answered, and, once the next one
// has opened the Shard, changes that nobody may ever see. It implements connOwner.
type former struct {
	c       *client
	pending []*request
	conns   [nodes]*clientConn
	last    ident.RequestID
	session ident.SessionID
	// generation of the attachment.
	generation ident.Generation
	// forbidden are the requests that were first sent after the next attachment had opened the Shard.
	forbidden map[ident.RequestID]bool
	ends      int64
}

// live has the present attachment live on as a former one.
func (c *client) live() {
	w := c.w
	z := &former{
		c: c, conns: c.conns, last: c.last, session: ident.SessionID(w.session - 1),
		generation: ident.Generation(w.generation - 1), forbidden: map[ident.RequestID]bool{},
		ends: w.t + int64(w.between(0, 6*time.Second)),
	}
	for _, q := range c.pending {
		if q.header.Opcode != wire.OpOpen {
			z.pending = append(z.pending, q)
		}
	}
	for _, k := range z.conns {
		if k != nil {
			k.owner = z
		}
	}
	z.work()
}

func (z *former) work() {
	w := z.c.w
	w.after(w.between(2*time.Millisecond, 60*time.Millisecond), func() {
		if w.t > z.ends || !w.faulty {
			return
		}
		defer z.work()
		switch {
		case len(z.pending) > 0 && w.chance(50):
			z.send(z.pending[w.r.IntN(len(z.pending))])
		case z.c.opened:
			z.trespass()
		}
	})
}

// trespass writes what nobody may see.
func (z *former) trespass() {
	c := z.c
	first, blocks := c.place()
	z.last++
	q := &request{header: wire.Header{
		Opcode: wire.OpWrite, Session: z.session, Request: z.last, Generation: z.generation, Shard: shardID(c.index),
		Offset: uint64(first * ident.BlockSize), Length: uint32(blocks * ident.BlockSize),
	}}
	for range blocks {
		q.values = append(q.values, c.oracle.Unique())
	}
	z.forbidden[z.last] = true
	z.send(q)
}

// send passes a request to the Primary, whom it knows as well as its successor does, or to any node.
func (z *former) send(q *request) {
	w := z.c.w
	to := w.home(&z.c.record, z.c.record.Primary)
	q.header.Epoch = z.c.record.Epoch
	if to < 0 || w.chance(20) {
		to = w.r.IntN(nodes)
		q.header.Epoch = z.c.seen[to]
	}
	q.header.Committed = ident.Seq(q.header.Request)
	k := z.conns[to]
	switch {
	case k == nil:
		z.conns[to] = w.dial(z, to)
	case k.ready:
		k.transmit(q, 1)
	}
}

func (z *former) greeted(*clientConn) {}

func (z *former) lost(k *clientConn) {
	if z.conns[k.to] == k {
		z.conns[k.to] = nil
	}
}

func (z *former) answered(_ int, f *transport.Frame) {
	if f.Session != z.session || f.Status != wire.StatusOK {
		return
	}
	if z.forbidden[f.Request] {
		z.c.w.failf("shard %d took %s after a newer attachment had opened it", z.c.index, show(&f.Header))
	}
	z.pending = slices.DeleteFunc(z.pending, func(q *request) bool { return q.header.Request == f.Request })
}
