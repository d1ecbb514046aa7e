package client

import (
	"context"
	"slices"
	"sync"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport"
)

// flushBatch is how many connections are taken at a time to be flushed.
const flushBatch = 8

// Volume is an open Volume.
type Volume struct {
	o               Options
	size, shardSize int64
	session         ident.SessionID
	// ctx ends the dials, at Close; workers are dials and connections.
	ctx     context.Context //nolint:containedctx // it spans the life of the Volume, not a call
	stop    context.CancelFunc
	workers sync.WaitGroup

	// mu guards everything below and in shards, peers and links.
	mu     sync.Mutex
	shards []shard
	// active has each Shard with something in flight, unflushed each that may have something to flush; both may have
	// more, until somebody looks.
	active, unflushed []*shard
	peers             map[string]*peer
	// touched are the links with something to flush.
	touched []*link
	// finished are Requests to be completed by whoever leaves next.
	finished requestList
	free     *part
	freed    int
	// requests in flight; submitted ever.
	requests  int
	submitted uint64
	// copies is the memory of cut-out parts, at most copyLimit if there is more than one.
	copies, copyLimit int
	// frame is where frames are made.
	frame transport.Frame
	// ended is why Requests fail at once; nil while they do not.
	ended error

	// now counts ticks from 1; the timer is armed while it goes on. seen is submitted at the last tick.
	now   int64
	timer Timer
	armed bool
	seen  uint64
	// stalled is the tick since when there is no progress, 0 if there is.
	stalled int64
	// question for the map that is on its way, if any.
	question question
}

// Size in bytes.
func (v *Volume) Size() int64 { return v.size }

// Buffer gives memory for n bytes, or nil while the frontend's half of the Pool is in use.
func (v *Volume) Buffer(n int) *buffer.Buffer {
	if inUse, limit := v.o.Pool.Use(); inUse+n > limit/2 {
		return nil
	}
	return v.o.Pool.Get(n)
}

// Submit takes r. It may be sent only at Kick, which need not be called for what is submitted from within RequestDone;
// it may be completed before Submit returns.
func (v *Volume) Submit(r *Request) {
	if err := v.check(r); err != nil {
		r.Err = err
		v.o.Metrics.Failed.Add(1)
		r.Done.RequestDone(r)
		return
	}
	v.o.Metrics.Requests[r.Op].Add(1)
	v.mu.Lock()
	if err := v.refusal(); err != nil {
		v.mu.Unlock()
		r.Err = err
		v.o.Metrics.Failed.Add(1)
		r.Done.RequestDone(r)
		return
	}
	r.Err = nil
	v.requests++
	v.submitted++
	v.o.Metrics.InFlight.Add(1)
	if !v.armed {
		v.armed = true
		v.timer.Reset(tick)
	}
	if r.Op == OpFlush {
		v.startFlush(r)
	} else {
		v.startRange(r)
	}
	done := r.left == 0
	if done {
		v.requests--
	}
	v.mu.Unlock()
	if done {
		v.o.Metrics.InFlight.Add(-1)
		r.Done.RequestDone(r)
	}
}

func (v *Volume) check(r *Request) error {
	limit := MaxSpan
	switch r.Op {
	case OpFlush:
		return nil
	case OpRead, OpWrite:
		limit = MaxIO
		if r.Buffer == nil || r.Length > r.Buffer.Cap() {
			return ErrInvalid
		}
	case OpDiscard, OpWriteZeroes:
	default:
		return ErrInvalid
	}
	if r.Length <= 0 || r.Length > limit || r.Offset < 0 || (r.Offset|int64(r.Length))%ident.BlockSize != 0 ||
		r.Offset > v.size-int64(r.Length) {
		return ErrInvalid
	}
	if r.Op == OpRead || r.Op == OpWrite {
		r.Buffer.DropSums() // the caller has changed the bytes since
		r.Buffer.Resize(r.Length)
	}
	if r.Op == OpWrite { // here, where nobody else waits
		checksum.Blocks(r.Buffer.Bytes(), r.Buffer.SumsRoom())
		r.Buffer.SetSums()
	}
	return nil
}

func (v *Volume) refusal() error {
	if v.ended == nil && v.requests >= MaxRequests {
		return ErrTooMany
	}
	return v.ended
}

// startRange makes and sends the parts of a Request that has a range.
func (v *Volume) startRange(r *Request) {
	end := r.Offset + int64(r.Length)
	first, last := r.Offset/v.shardSize, (end-1)/v.shardSize
	r.left = int(last - first + 1)
	at := r.Offset
	for i := first; i <= last; i++ {
		p := v.newPart(r, i == first)
		p.shard = &v.shards[i]
		p.offset, p.at = uint64(at-i*v.shardSize), int(at-r.Offset)
		p.length = int(min(end, (i+1)*v.shardSize) - at)
		at += int64(p.length)
		p.shard.add(p)
	}
}

// startFlush makes and sends a part for each Shard that has something to flush. There may be none.
func (v *Volume) startFlush(r *Request) {
	kept := v.unflushed[:0]
	for _, s := range v.unflushed {
		if s.unflushed = s.written != s.flushed; s.unflushed {
			kept = append(kept, s)
		}
	}
	v.unflushed = kept
	r.left = len(kept)
	for i, s := range kept {
		p := v.newPart(r, i == 0)
		p.shard, p.mark = s, s.written
		s.add(p)
	}
}

// newPart is a part of r with everything else zero.
func (v *Volume) newPart(r *Request, first bool) *part {
	p := &r.first
	if !first {
		if p = v.free; p == nil {
			p = &part{}
		} else {
			v.free = p.next
			v.freed--
		}
	}
	*p = part{request: r}
	return p
}

// finish ends p with its outcome and, with the last part, the Request.
func (v *Volume) finish(p *part, err error) {
	s, r := p.shard, p.request
	s.drop(p)
	s.progress = v.now
	v.settle(p, err)
	if err == nil {
		s.note(r.Op, p.mark)
	}
	v.recycle(p)
	s.pump()
}

// settle takes the outcome of p to its Request.
func (v *Volume) settle(p *part, err error) {
	r := p.request
	v.dropCopy(p)
	if err != nil && r.Err == nil {
		r.Err = err
	}
	if r.left--; r.left > 0 {
		return
	}
	v.requests--
	v.finished.push(r)
}

// note remembers what has to be flushed, and what has been.
func (s *shard) note(op Op, mark uint64) {
	switch {
	case op == OpFlush:
		s.flushed = max(s.flushed, mark)
	case op.changes():
		s.written++
		if !s.unflushed {
			s.unflushed = true
			s.volume.unflushed = append(s.volume.unflushed, s)
		}
	}
}

// recycle keeps p for another Request, unless it is part of one.
func (v *Volume) recycle(p *part) {
	own := p == &p.request.first
	p.request, p.shard, p.link = nil, nil, nil
	if own || v.freed >= maxFreeParts {
		return
	}
	p.next = v.free
	v.free = p
	v.freed++
}

// touch notes that l is to be flushed.
func (v *Volume) touch(l *link) {
	if !l.touched {
		l.touched = true
		v.touched = append(v.touched, l)
	}
}

// Kick sends what was submitted.
func (v *Volume) Kick() {
	var batch [flushBatch]*link
	for {
		v.mu.Lock()
		n := v.take(&batch)
		v.mu.Unlock()
		flush(batch[:n])
		if n < flushBatch {
			return
		}
	}
}

func (v *Volume) take(batch *[flushBatch]*link) int {
	n := min(len(v.touched), flushBatch)
	rest := len(v.touched) - n
	for i, l := range v.touched[rest:] {
		l.touched = false
		batch[i] = l
		v.touched[rest+i] = nil
	}
	v.touched = v.touched[:rest]
	return n
}

func flush(links []*link) {
	for _, l := range links {
		l.conn.Flush()
	}
}

// leave does what must not be done under mu, whoever left it to be done: flush, then complete. Called without mu.
func (v *Volume) leave() {
	v.Kick()
	v.mu.Lock()
	r := v.finished.head
	v.finished = requestList{}
	v.mu.Unlock()
	n, failed := int64(0), int64(0)
	for r != nil {
		next := r.next
		r.next = nil
		if n++; r.Err != nil {
			failed++
		}
		r.Done.RequestDone(r)
		r = next
	}
	if n > 0 {
		v.o.Metrics.InFlight.Add(-n)
		v.o.Metrics.Failed.Add(failed)
		v.Kick() // what was submitted by those who were told
	}
}

// end makes every Request fail, now and later. Under mu.
func (v *Volume) end(err error) {
	if v.ended != nil {
		return
	}
	v.ended = err
	for _, s := range v.active {
		for p := s.queue.pop(); p != nil; p = s.queue.pop() {
			v.settle(p, err)
			v.recycle(p)
		}
		for id := s.lowest; id < s.next; id++ {
			if p := s.find(id); p != nil {
				s.drop(p)
				v.settle(p, err)
				v.recycle(p)
			}
		}
	}
	if v.stalled != 0 {
		v.stalled = 0
		v.o.Metrics.Stalled.Add(-1)
	}
}

// Fenced reports whether the Volume is known to be of no use here any more: see ErrFenced. Whichever answer told so, be
// it one that nobody outside asked for.
func (v *Volume) Fenced() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended == ErrFenced //nolint:errorlint // our own value, unwrapped
}

// Addresses of the storenodes that have a Replica, as the newest known Records say, each once and at most MaxAddresses:
// who opens the Volume later may begin at them, be those given to Open gone by then.
func (v *Volume) Addresses() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []string
	for i := range v.shards {
		for _, r := range v.shards[i].record.Replicas {
			if r.Address == "" || slices.Contains(all, r.Address) {
				continue
			}
			if all = append(all, r.Address); len(all) == MaxAddresses {
				return all
			}
		}
	}
	return all
}

// Close ends the Volume. Requests in flight fail with ErrClosed; their outcome at the storenodes is unknown.
func (v *Volume) Close() error {
	v.mu.Lock()
	if v.ended == ErrClosed { //nolint:errorlint // our own value, unwrapped
		v.mu.Unlock()
		return nil
	}
	v.end(ErrClosed)
	v.ended = ErrClosed
	v.timer.Stop()
	var open []transport.Conn
	for _, p := range v.peers {
		if p.link != nil && p.link.conn != nil {
			open = append(open, p.link.conn)
		}
	}
	v.mu.Unlock()
	v.stop()
	for _, c := range open {
		c.Close(ErrClosed)
	}
	v.leave()
	v.workers.Wait()
	if v.o.Closed != nil {
		v.o.Closed()
	}
	return nil
}
