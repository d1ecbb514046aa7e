package sim_test

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// asker sends single requests to single nodes.
type asker struct {
	w       *world
	conns   map[int]*clientConn
	request ident.RequestID
	answer  *wire.Header
	value   uint64
}

func (a *asker) greeted(*clientConn) {}
func (a *asker) lost(k *clientConn)  { delete(a.conns, k.to) }
func (a *asker) answered(_ int, f *transport.Frame) {
	if f.Request != a.request {
		return
	}
	h := f.Header
	a.answer = &h
	if f.Payload != nil && f.Status == wire.StatusOK {
		a.value, _ = valueOf(f.Payload.Bytes()[:ident.BlockSize])
	}
}

// ask waits up to a second of the world's time; nil if there is no answer.
func (a *asker) ask(to int, opcode wire.Opcode, epoch ident.Epoch, value uint64) *wire.Header {
	a.request++
	a.answer = nil
	if a.conns[to] == nil {
		a.conns[to] = a.w.dial(a, to)
		a.w.until(50*time.Millisecond, never)
	}
	f := transport.Frame{Header: wire.Header{
		Opcode: opcode, Shard: shardID(0), Length: ident.BlockSize, Epoch: epoch, Generation: 1,
		Session: 99, Request: a.request, Committed: ident.Seq(a.request),
	}}
	if opcode == wire.OpWrite {
		f.Payload = fill(a.w.pool, []uint64{value})
	}
	_ = a.conns[to].conn.Send(&f)
	a.w.until(time.Second, func() bool { return a.answer != nil })
	return a.answer
}

func (a *asker) isOK(h *wire.Header) bool { return h != nil && h.Status == wire.StatusOK }

// A node is cut off from everything, for long enough that its Shard moves to other nodes altogether. Then it can reach
// the storenodes again that it had its leases from, and not yet the API server.
func TestAPrimaryIsNotServingByLeasesOfThoseWhoHaveNoReplicaAnyMore(t *testing.T) {
	w := newWorld(7, newMemory())
	w.faulty = false
	for _, n := range w.nodes {
		n.start()
	}
	g := w.register
	g.begin()
	w.until(5*time.Second, g.begun)
	a := &asker{w: w, conns: map[int]*clientConn{}}
	w.until(3*time.Second, never)
	if !a.isOK(a.ask(0, wire.OpWrite, 1, 11)) {
		t.Fatalf("n1 does not serve: %+v %s", a.answer, w.describe())
	}

	for i := range w.nodes {
		if i != 0 {
			w.cut[0][i], w.cut[i][0] = true, true
		}
	}
	w.nodes[0].isolated, w.nodes[0].unlinked = true, 1<<62
	force := func(primary ident.ReplicaID, inSync []ident.ReplicaID, all []membership.Replica) {
		r := &g.records[0]
		*r = membership.Record{Epoch: r.Epoch + 1, Primary: primary, InSync: inSync, Replicas: all}
		g.inSync[0] = append(g.inSync[0], len(inSync))
		t.Logf("%v: %+v", time.Duration(w.t), *r)
	}
	r1, r2, r3, r4 := w.nodes[0].replica(1), w.nodes[1].replica(2), w.nodes[2].replica(3), w.nodes[3].replica(4)
	force(2, []ident.ReplicaID{2, 3}, []membership.Replica{r1, r2, r3}) // the operator promotes
	w.until(5*time.Second, never)
	force(2, g.records[0].InSync, []membership.Replica{r1, r2, r3, r4}) // and replaces
	w.until(20*time.Second, func() bool { return g.records[0].IsInSync(4) })
	if !g.records[0].IsInSync(4) {
		t.Fatal(w.fail, w.describe())
	}
	force(4, []ident.ReplicaID{4}, []membership.Replica{r2, r3, r4})
	w.until(5*time.Second, never)
	force(4, []ident.ReplicaID{4}, []membership.Replica{r4}) // n2 and n3 were drained
	w.until(5*time.Second, never)
	g.minInSync = 1
	w.until(time.Second, never)
	if !a.isOK(a.ask(3, wire.OpWrite, g.records[0].Epoch, 22)) {
		t.Fatalf("n4 does not serve: %+v %s", a.answer, w.describe())
	}
	if a.isOK(a.ask(0, wire.OpRead, 1, 0)) {
		t.Error("n1 serves while it is cut off")
	}

	w.cut = [nodes][nodes]bool{}
	for range 5 {
		w.until(2*time.Second, never)
		if a.isOK(a.ask(0, wire.OpRead, 1, 0)) {
			t.Errorf("%v: two Primaries: n1 answers a read in epoch %d with %d, n4 has acknowledged 22 in epoch %d",
				time.Duration(w.t), a.answer.Epoch, a.value, g.records[0].Epoch)
		}
	}
}
