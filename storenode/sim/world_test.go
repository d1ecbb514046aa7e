package sim_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/engine/mem"
	"github.com/shale-storage/shale/storenode/replication"
)

const (
	// replicas of each Shard, on as many nodes; on others one that is lost is replaced.
	replicas = 3
	shards   = 2
	// poolSize bounds the payloads of all nodes of a run together.
	poolSize = 256 << 20
	// scarceSize bounds, in a run in scarceRuns, what a node reads and tells, and what of others' writes it has at a time.
	scarceSize = 1 << 20
	scarceRuns = 4
)

// tracing keeps what happens, to be shown with a failure.
var tracing = os.Getenv("SIM_TRACE") != ""

// world is one run.
type world struct {
	memory *memory
	// pool is the clients' memory for payloads, and the nodes' unless it is scarce.
	pool   *buffer.Pool
	scarce bool
	// t is the time, in nanoseconds since the run began.
	t     int64
	r     *rand.Rand
	queue events
	count int
	fail  error
	log   strings.Builder
	// digest of all that happened, to compare runs of one seed.
	digest uint64

	nodes    []*node
	register *register
	clients  []*client
	// session and generation of the clients, which live and die together.
	session    uint64
	generation uint64
	// rotten is the one node whose Blocks rot, nil before: so that another has a good copy.
	rotten *node
	// whims of all Devices.
	whims mem.Whims
	// cut[a][b]: what a sends to b is lost.
	cut [nodes][nodes]bool
	// unreached are the ways between the clients and the nodes that are cut.
	unreached [nodes]ways
	// faulty: damage is done.
	faulty bool
	// trap: the next node that replicates a write dies in the middle of it, and so do the clients.
	trap    bool
	looking int64
	// torn: power was lost everywhere, or a Replica that rots was alone in sync, so Blocks may have no good copy until
	// they are written again.
	torn bool
	// emptied is when a full Device had room again, last.
	emptied int64
	// sick: some Device has failed requests, so a client may be told so.
	sick bool
	// unread: reads failed on a Device, so the only good copy of a Block may be out of reach for a while; who was brought
	// in sync meanwhile knows that it misses it, and has it in the end.
	unread bool
	// inUse is the memory that earlier runs, which failed, left in use.
	inUse int
	// served is the highest Epoch of an answered read, by Shard.
	served [shards]uint64
	// committed is the highest Committed that was told in the newest life of the newest reign, by Shard.
	committed [shards]struct{ reign, life, seq uint64 }
}

type event struct {
	at    int64
	count int
	f     func()
}

// events are a heap: the next is the first.
type events []event

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.count < o.count }

func (e *events) push(x event) {
	*e = append(*e, x)
	q := *e
	i := len(q) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !x.before(&q[parent]) {
			break
		}
		q[i], i = q[parent], parent
	}
	q[i] = x
}

func (e *events) pop() event {
	q := *e
	first, last := q[0], q[len(q)-1]
	q[len(q)-1] = event{}
	q = q[:len(q)-1]
	*e = q
	i := 0
	for child := 1; child < len(q); child = 2*i + 1 {
		if child+1 < len(q) && q[child+1].before(&q[child]) {
			child++
		}
		if last.before(&q[child]) {
			break
		}
		q[i], i = q[child], child
	}
	if len(q) > 0 {
		q[i] = last
	}
	return first
}

func newWorld(seed uint64, m *memory) *world {
	w := &world{memory: m, pool: m.pool, r: rand.New(rand.NewPCG(seed, 2)), faulty: true, session: 1, generation: 1}
	w.whims = whims(seed)
	w.scarce = seed%scarceRuns == 0
	w.inUse = m.inUse()
	w.register = newRegister(w)
	for i := range nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	for i := range uint32(shards) {
		w.clients = append(w.clients, newClient(w, i))
	}
	return w
}

func (w *world) after(d time.Duration, f func()) {
	w.count++
	w.queue.push(event{at: w.t + int64(d), count: w.count, f: f})
}

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.r.Int64N(int64(b-a)+1))
}

func (w *world) chance(percent float64) bool { return w.r.Float64()*100 < percent }

// note mixes something that happened into the digest.
func (w *world) note(x uint64) { w.digest = (w.digest^x^uint64(w.t))*1099511628211 + 1 }

func (w *world) logf(format string, args ...any) {
	if tracing && w.log.Len() < 256<<20 {
		fmt.Fprintf(&w.log, "%11.3fms ", float64(w.t)/1e6)
		fmt.Fprintf(&w.log, format+"\n", args...)
	}
}

// Write takes what Hosts log.
func (w *world) Write(b []byte) (int, error) {
	w.logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w *world) logger(name string) *slog.Logger {
	if !tracing {
		return slog.New(slog.DiscardHandler)
	}
	strip := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: strip})).With("node", name)
}

func (w *world) failf(format string, args ...any) {
	if w.fail == nil {
		w.fail = fmt.Errorf("at %v: %s", time.Duration(w.t), fmt.Sprintf(format, args...))
		w.logf("FAIL %v", w.fail)
	}
}

func (w *world) until(d time.Duration, done func() bool) bool {
	for end := w.t + int64(d); w.fail == nil && len(w.queue) > 0 && w.queue[0].at <= end; {
		e := w.queue.pop()
		w.t = e.at
		e.f()
		if done() {
			return true
		}
	}
	return false
}

func never() bool { return false }

// run is the whole story; it returns why the run failed.
func (w *world) run(faults time.Duration) error {
	for _, n := range w.nodes {
		n.start()
	}
	w.register.begin()
	if !w.until(5*time.Second, w.register.begun) {
		w.failf("replicas were not created")
	}
	w.register.operate()
	w.harm()
	w.mishaps()
	w.inspect()
	for _, c := range w.clients {
		c.open()
		c.work()
	}
	w.until(faults, never)
	w.heal()
	w.register.setBack()
	w.until(3*time.Second, never)
	for _, c := range w.clients {
		c.mend()
	}
	w.settle()
	if (w.rotten != nil || w.unread) && w.fail == nil {
		w.until(3*scrubPass, never) // a whole pass heals what nobody has read
		w.settle()
	}
	w.atRest()
	for _, n := range w.nodes {
		n.kill(false, 0)
	}
	if w.fail == nil && w.missing() > 0 {
		w.until(5*time.Second, never) // what is on its way comes back
		if n := w.missing(); n > 0 {
			w.failf("%d bytes of the pool were never given back", n)
		}
	}
	return w.fail
}

// settle waits for the end of everything that was begun.
func (w *world) settle() {
	if w.fail == nil && !w.quiet() && !w.until(120*time.Second, w.quiet) && w.fail == nil {
		w.failf("no progress after healing: %s", w.describe())
	}
}

// inspect looks now and then whether what only grows has shrunk.
func (w *world) inspect() {
	w.after(50*time.Millisecond, func() {
		for _, n := range w.nodes {
			if !n.up() || n.paused {
				continue
			}
			for _, s := range n.host.Statuses() {
				if s.Key.Shard.Volume != volume {
					continue
				}
				if known := n.epochs[s.Key]; s.Epoch < known {
					w.failf("%s is at epoch %d after %d", s.Key, s.Epoch, known)
				}
				n.epochs[s.Key] = s.Epoch
			}
		}
		w.inspect()
	})
}

// missing is the memory that this run has and an earlier one, that failed, has not.
func (w *world) missing() int { return w.memory.inUse() - w.inUse }

func (w *world) heal() {
	w.logf("heal all")
	w.faulty, w.trap = false, false
	w.register.away = false
	w.cut, w.unreached = [nodes][nodes]bool{}, [nodes]ways{}
	for _, n := range w.nodes {
		n.isolated = false
		n.resume()
		n.recover()
	}
}

// quiet reports whether everything is as it should be in the end.
func (w *world) quiet() bool {
	for i, c := range w.clients {
		r := &w.register.records[i]
		if len(c.pending) > 0 || len(c.mending) > 0 || !c.opened || len(r.InSync) < replicas || len(r.Replicas) > replicas {
			return false
		}
	}
	for _, n := range w.nodes {
		if !n.up() || n.device.Pending() > 0 || !n.settled() {
			return false
		}
	}
	return true
}

func (w *world) describe() string {
	text := ""
	for i, c := range w.clients {
		r := w.register.records[i]
		text += fmt.Sprintf("shard %d: epoch %d primary %d in sync %v, %d requests wait; ",
			i, r.Epoch, r.Primary, r.InSync, len(c.pending))
	}
	for _, n := range w.nodes {
		if n.up() {
			for _, s := range n.host.Statuses() {
				text += fmt.Sprintf("%s: epoch %d state %d primary %v %q; ", s.Key, s.Epoch, s.State, s.Primary, s.Message)
			}
		}
	}
	return text
}

// timing is the product's.
func timing() replication.Timing { return replication.DefaultTiming() }
