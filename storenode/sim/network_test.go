package sim_test

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

var (
	errRefused = errors.New("connection refused")
	errBroken  = errors.New("connection was reset")
)

// silence is how long a connection lives whose frames are lost.
const silence = 1500 * time.Millisecond

// pipe is a connection between two ends. Frames of one direction arrive in order, or, once it has broken, not at all.
type pipe struct {
	w      *world
	ends   [2]*end
	broken bool
}

// end is one side of a pipe. It implements transport.Conn.
type end struct {
	p *pipe
	// n is the node, in its life; nil for a client.
	n       *node
	life    int
	other   *end
	handler transport.Handler
	// inbox has arrived and was not read yet; last is when the last of those on their way arrives.
	inbox   []transport.Frame
	reading bool
	last    int64
	closed  bool
	// gathered is read, in this end's life.
	gathered func()
}

func (e *end) index() int {
	if e.n == nil {
		return -1
	}
	return e.n.index
}

func (e *end) alive() bool { return e.n == nil || !e.n.dead && e.n.life == e.life }

// run calls f on this end after a while, in its life.
func (e *end) run(d time.Duration, f func()) {
	e.p.w.after(d, e.inLife(f))
}

// inLife is f, unless this end's process is gone by then.
func (e *end) inLife(f func()) func() {
	if e.n == nil {
		return f
	}
	return func() { e.n.deliver(e.life, f) }
}

func (w *world) newPipe(from, to *node) *pipe {
	p := &pipe{w: w}
	for i, n := range []*node{from, to} {
		p.ends[i] = &end{p: p, n: n}
		if n != nil {
			p.ends[i].life = n.life
			n.pipes = append(n.pipes, p)
		}
		p.ends[i].gathered = p.ends[i].inLife(p.ends[i].read)
	}
	p.ends[0].other, p.ends[1].other = p.ends[1], p.ends[0]
	return p
}

// connect makes a pipe, if the other node answers.
func (w *world) connect(from, to *node, h transport.Handler, done func(transport.Conn, error)) {
	if to.dead || to.paused || w.isApart(from, to) {
		done(nil, errRefused)
		return
	}
	p := w.newPipe(from, to)
	accepted, err := to.host.Accept(p.ends[1])
	if err != nil {
		done(nil, err)
		return
	}
	p.ends[0].handler, p.ends[1].handler = h, accepted
	done(p.ends[0], nil)
}

// Send implements transport.Conn.
func (e *end) Send(f *transport.Frame) error {
	w := e.p.w
	frame := *f
	frame.PayloadLength = 0
	if f.Payload != nil {
		frame.PayloadLength = uint32(f.Payload.Len())
	}
	if e.p.broken || e.closed || !e.alive() || !e.other.alive() {
		drop(&frame)
		return transport.ErrClosed
	}
	w.sent(e, &frame)
	if w.isCut(e, e.other) {
		drop(&frame)
		w.after(silence, func() { e.p.breaks(0) })
		return nil
	}
	arrive := max(e.other.last, w.t+int64(w.between(15*time.Microsecond, 200*time.Microsecond)))
	if w.faulty && w.chance(0.2) {
		arrive += int64(w.between(0, 30*time.Millisecond))
	}
	e.other.last = arrive
	if w.faulty && frame.Opcode != wire.OpHello && w.chance(0.5) {
		e.double(frame)
	}
	w.after(time.Duration(arrive-w.t), func() { e.other.arrives(frame) })
	return nil
}

// double has a frame arrive once more, late, by whatever connection the two processes have then.
func (e *end) double(f transport.Frame) {
	if f.Payload != nil {
		f.Payload.Retain()
	}
	e.p.w.after(e.p.w.between(0, 300*time.Millisecond), func() {
		if to := e.present(); to != nil {
			to.arrives(f)
			return
		}
		drop(&f)
	})
}

// present is the other end, or that of a later connection between the same two processes; nil if there is none.
func (e *end) present() *end {
	if !e.p.broken {
		return e.other
	}
	if e.n == nil || e.other.n == nil || !e.alive() || !e.other.alive() {
		return nil
	}
	way := slices.Index(e.p.ends[:], e)
	for _, p := range e.n.pipes {
		from, to := p.ends[way], p.ends[1-way]
		if !p.broken && from.n == e.n && to.n == e.other.n && to.life == e.other.life && !e.p.w.isCut(from, to) {
			return to
		}
	}
	return nil
}

func drop(f *transport.Frame) {
	if f.Payload != nil {
		f.Payload.Release()
		f.Payload = nil
	}
}

// arrives puts a frame where the reader finds it. What a node that is paused has got it reads later.
func (e *end) arrives(f transport.Frame) {
	if e.p.broken || e.closed || !e.alive() {
		drop(&f)
		return
	}
	e.inbox = append(e.inbox, f)
	if e.reading {
		return
	}
	e.reading = true
	gather := time.Duration(0)
	if e.p.w.chance(20) {
		gather = e.p.w.between(0, 100*time.Microsecond)
	}
	e.p.w.after(gather, e.gathered)
}

// read hands over a batch, as a reader does that finds several frames in its buffer.
func (e *end) read() {
	e.reading = false
	batch := e.inbox
	e.inbox = nil
	for i := range batch {
		f := &batch[i]
		if e.closed {
			drop(f)
			continue
		}
		e.p.w.note(uint64(f.Opcode)<<32 ^ uint64(f.Request) ^ uint64(f.Seq)<<16)
		e.p.w.received(e, f)
		if err := e.handler.Frame(e, f); err != nil {
			e.Close(err)
		}
	}
	if len(batch) > 0 && !e.closed {
		e.handler.Idle(e)
	}
}

// Flush implements transport.Conn.
func (e *end) Flush() {}

// Close implements transport.Conn.
func (e *end) Close(error) { e.p.breaks(e.p.w.between(0, time.Millisecond)) }

// Remote implements transport.Conn.
func (e *end) Remote() string {
	if e.other.n == nil {
		return "client"
	}
	return e.other.n.address()
}

// breaks ends the connection; both ends hear of it after a while, this one's reader not before it has returned.
func (p *pipe) breaks(d time.Duration) {
	if p.broken {
		return
	}
	p.broken = true
	for _, e := range p.ends {
		for i := range e.inbox {
			drop(&e.inbox[i])
		}
		e.inbox = nil
		e.run(d, e.end)
	}
}

func (e *end) end() {
	if e.closed {
		return
	}
	e.closed = true
	if e.handler != nil {
		e.handler.Closed(e, errBroken)
	}
}

// dies is the end of a process at one end. What it had sent may still arrive, for a moment.
func (p *pipe) dies(quiet time.Duration) {
	lag := p.w.between(0, 300*time.Microsecond)
	p.w.after(lag, func() { p.breaks(quiet) })
}

// sent sees each frame that is put on its way.
func (w *world) sent(e *end, f *transport.Frame) {
	if f.Opcode == wire.OpRead && f.IsReply() && f.Status == wire.StatusOK {
		s := &w.served[f.Shard.Index]
		if uint64(f.Epoch) < *s {
			w.failf("n%d answers a read of shard %d in epoch %d after another did in %d",
				e.index()+1, f.Shard.Index, f.Epoch, *s)
		}
		*s = uint64(f.Epoch)
	}
	w.checkCommitted(f)
	if w.trap && f.Opcode == wire.OpReplWrite && !f.IsReply() {
		w.trap = false
		n := e.n
		w.logf("trap: n%d", n.index+1)
		for _, p := range n.pipes {
			if p != e.p && p.ends[0].n == n && w.chance(70) {
				p.broken = true // nobody is told before the process is gone
				p := p
				w.after(time.Millisecond, func() {
					p.broken = false
					p.breaks(0)
				})
			}
		}
		w.after(w.between(50*time.Microsecond, 500*time.Microsecond), func() {
			w.attach()
			w.looking = w.t + int64(4*time.Second)
			w.crash(n, false)
		})
	}
	if tracing && f.Opcode != wire.OpHeartbeat {
		w.logf("n%d -> n%d %s", e.index()+1, e.other.index()+1, show(&f.Header))
	}
}

// checkCommitted sees that what is on all Replicas never becomes less while a process reigns. The next may not have
// heard the last of it, and flushes leave no trace. The upper bits of an attempt are the Primary's life.
func (w *world) checkCommitted(f *transport.Frame) {
	const attempts = 24 // bits of it within a life
	switch f.Opcode {
	case wire.OpReplWrite, wire.OpReplDiscard, wire.OpReplWriteZeroes, wire.OpReplFlush:
	default:
		return
	}
	known := &w.committed[f.Shard.Index]
	reign, life, seq := uint64(f.Session), uint64(f.Request)>>attempts, uint64(f.Committed)
	order := cmp.Or(cmp.Compare(reign, known.reign), cmp.Compare(life, known.life))
	switch {
	case f.IsReply() || order < 0:
		return
	case order == 0 && seq < known.seq:
		w.failf("shard %d: committed goes back from %d to %d in epoch %d", f.Shard.Index, known.seq, seq, f.Epoch)
	}
	known.reign, known.life, known.seq = reign, life, seq
}

func (w *world) received(e *end, f *transport.Frame) {
	if tracing && f.Opcode != wire.OpHeartbeat {
		w.logf("n%d <- n%d %s", e.index()+1, e.other.index()+1, show(&f.Header))
	}
}
