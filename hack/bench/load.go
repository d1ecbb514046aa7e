package main

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
)

// workload is one kind of load.
type workload struct {
	name          string
	write, random bool
	block, depth  int
}

var workloads = []workload{
	{"randwrite-4k-qd1", true, true, 4 << 10, 1},
	{"randwrite-4k-qd32", true, true, 4 << 10, 32},
	{"randread-4k-qd1", false, true, 4 << 10, 1},
	{"randread-4k-qd32", false, true, 4 << 10, 32},
	{"seqwrite-128k-qd8", true, false, 128 << 10, 8},
	{"seqread-128k-qd8", false, false, 128 << 10, 8},
}

// target is what is loaded.
type target interface {
	// begin starts an operation; its end is told by operation.ended, on any goroutine.
	begin(o *operation)
	// kick sends what was begun.
	kick()
}

// operation is one place in the queue, used again and again.
type operation struct {
	write  bool
	offset int64
	buf    *buffer.Buffer
	// slot is the target's.
	slot  any
	run   *running
	began time.Time
}

// running is a load under way.
type running struct {
	w    workload
	size int64
	on   target
	stop time.Time
	// count ends it by number instead of by time, if not 0.
	count int64

	mu        sync.Mutex
	next      int64
	begun     int64
	done      int64
	failed    error
	latencies []time.Duration
	left      int
	over      chan struct{}
}

// result of one run.
type result struct {
	perSecond float64
	median    time.Duration
	p99       time.Duration
	cpu       time.Duration
	done      int64
}

// whole is a time for drive: once over all of the target, however long it takes.
const whole = time.Hour

// drive loads the target for a time.
func (o *options) drive(on target, w workload, last time.Duration) (result, error) {
	r := &running{w: w, size: o.size, on: on, left: w.depth, over: make(chan struct{})}
	if last == whole {
		r.count = o.size / int64(w.block)
	}
	start := time.Now()
	r.stop = start.Add(last)
	for range w.depth {
		o := &operation{write: w.write, buf: o.memory.Get(w.block), run: r}
		for i := range o.buf.Bytes() {
			o.buf.Bytes()[i] = byte(rand.Uint32())
		}
		r.submit(o)
	}
	on.kick()
	<-r.over
	took := time.Since(start)
	if r.failed != nil {
		return result{}, r.failed
	}
	slices.Sort(r.latencies)
	at := func(part int) time.Duration { return r.latencies[min(len(r.latencies)*part/100, len(r.latencies)-1)] }
	return result{perSecond: float64(r.done) / took.Seconds(), median: at(50), p99: at(99), done: r.done}, nil
}

// submit begins the next operation in the place o, or ends the place.
func (r *running) submit(o *operation) {
	now := time.Now()
	r.mu.Lock()
	if r.failed != nil || now.After(r.stop) || r.count > 0 && r.begun >= r.count {
		o.buf.Release()
		if r.left--; r.left == 0 {
			close(r.over)
		}
		r.mu.Unlock()
		return
	}
	blocks := r.size / int64(r.w.block)
	o.offset = r.next % blocks * int64(r.w.block)
	if r.w.random {
		o.offset = rand.Int64N(blocks) * int64(r.w.block)
	}
	r.next++
	r.begun++
	r.mu.Unlock()
	o.began = now
	r.on.begin(o)
}

// ended is told by the target.
func (o *operation) ended(err error) {
	took := time.Since(o.began)
	r := o.run
	r.mu.Lock()
	if err != nil && r.failed == nil {
		r.failed = err
	}
	r.done++
	r.latencies = append(r.latencies, took)
	r.mu.Unlock()
	r.submit(o)
}
