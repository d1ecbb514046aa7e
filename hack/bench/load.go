package main

import (
	"fmt"
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
	// reads is how many of a hundred operations of a load that writes are reads, drawn at random.
	reads int
}

var workloads = []workload{
	{name: "randwrite-4k-qd1", write: true, random: true, block: 4 << 10, depth: 1},
	{name: "randwrite-4k-qd32", write: true, random: true, block: 4 << 10, depth: 32},
	{name: "randread-4k-qd1", random: true, block: 4 << 10, depth: 1},
	{name: "randread-4k-qd32", random: true, block: 4 << 10, depth: 32},
	{name: "seqwrite-128k-qd8", write: true, block: 128 << 10, depth: 8},
	{name: "seqread-128k-qd8", block: 128 << 10, depth: 8},
}

// filling writes all of the target once.
var filling = workload{name: "fill", write: true, block: 1 << 20, depth: 4}

// target is what is loaded.
type target interface {
	// begin starts an operation; its end is told by operation.ended, on any goroutine.
	begin(o *operation)
	// kick sends what was begun.
	kick()
	// failure is why it is of no use any more, once broken is closed.
	broken() <-chan struct{}
	failure() error
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
	// count ends it by number instead of by time, if not 0.
	count int64

	began time.Time

	mu        sync.Mutex
	stop      time.Time
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

// whole is a time for drive: once over all of the target, however long it takes, up to wholeLimit.
const whole = time.Hour

const wholeLimit = 5 * time.Minute

// drive loads the target for a time.
func (o *options) drive(on target, w workload, last time.Duration) (result, error) {
	return o.begin(on, w, last).wait(min(last, wholeLimit))
}

// begin loads the target until a time has passed or end is called.
func (o *options) begin(on target, w workload, last time.Duration) *running {
	r := &running{w: w, size: o.size, on: on, left: w.depth, over: make(chan struct{})}
	if last == whole {
		r.count = o.size / int64(w.block)
	}
	r.began = time.Now()
	r.stop = r.began.Add(last)
	for range w.depth {
		o := &operation{buf: o.memory.Get(w.block), run: r}
		for i := range o.buf.Bytes() {
			o.buf.Bytes()[i] = byte(rand.Uint32())
		}
		r.submit(o)
	}
	on.kick()
	return r
}

// end lets what is in flight be the last.
func (r *running) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop = time.Now()
}

// wait is for the end of all operations, a while longer than the time that the load is to last.
func (r *running) wait(last time.Duration) (result, error) {
	select {
	case <-r.over:
	case <-r.on.broken():
		return result{}, r.on.failure()
	case <-time.After(last + patience):
		return result{}, fmt.Errorf("the load has not ended %s after its time", patience)
	}
	took := time.Since(r.began)
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
	o.write = r.w.write && rand.IntN(100) >= r.w.reads
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
