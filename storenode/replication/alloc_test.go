package replication

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// still is an Environment in which nothing happens.
type still struct{}

func (still) LeaseUntil(ident.ReplicaID) Instant            { return 1 << 62 }
func (still) Promised(ident.ReplicaID) Instant              { return 0 }
func (still) Tail(into []wire.TailRecord) []wire.TailRecord { return into }
func (still) LastSeq() ident.Seq                            { return 0 }
func (still) Doubtful(func(offset, length int64))           {}
func (still) PowerLost() bool                               { return false }
func (still) Extents(uint32, func(wire.ExtentDigest) bool)  {}
func (still) Written(uint32) bitmap.Bitmap                  { return bitmap.Bitmap{} }
func (still) Checksum(int64) (sum uint32, written bool)     { return 0, false }
func (still) Sum(Payload) uint32                            { return 0 }
func (still) Observe(time.Duration)                         {}
func (still) AcquireRebuild(int) bool                       { return true }
func (still) ReleaseRebuild()                               {}
func (still) Encode(encoded []byte) Payload                 { return encodedBytes(encoded) }
func (still) Bytes(p Payload) []byte                        { return p.(encodedBytes) }

type encodedBytes []byte

func (encodedBytes) Retain()  {}
func (encodedBytes) Release() {}

// pair is a Primary and a Backup that hand each other their messages at once.
type pair struct {
	machines [3]*Machine
	now      Instant
	answers  int
	message  Message
}

func newPair(tb testing.TB) *pair {
	tb.Helper()
	p := &pair{}
	r := membership.Record{
		Epoch: 1, Primary: 1, InSync: []ident.ReplicaID{1, 2}, Replicas: []membership.Replica{{ID: 1}, {ID: 2}},
	}
	for id := ident.ReplicaID(1); id <= 2; id++ {
		p.machines[id] = New(Config{
			Self: ident.ReplicaKey{Replica: id}, Size: 1 << 30, Environment: still{}, Timing: DefaultTiming(),
		})
		p.machines[id].Require(0, 2)
	}
	for id := ident.ReplicaID(1); id <= 2; id++ {
		if err := p.machines[id].Adopt(0, r); err != nil {
			tb.Fatal(err)
		}
		p.machines[id].Connected(0, 3-id, false)
	}
	p.settle()
	if s := p.machines[1].Status(); s.Role != RolePrimary {
		tb.Fatalf("not a Primary but %+v", s)
	}
	return p
}

// settle runs both until neither has anything for the other.
func (p *pair) settle() {
	for again := true; again; {
		again = false
		for _, m := range p.machines[1:] {
			ready, ok := m.Ready()
			if !ok {
				continue
			}
			again = true
			if ready.Record != nil {
				m.Persisted(p.now, ready.Record.Epoch, nil)
			}
			for _, op := range ready.Stores {
				m.Stored(p.now, op)
			}
			for i := range ready.Sends {
				s := &ready.Sends[i]
				if s.Route != nil {
					p.answers++
					continue
				}
				p.machines[s.To].Step(p.now, s)
			}
			m.Done()
		}
	}
}

// write is one write from the client's request to its answer, on both Replicas.
func (p *pair) write(request ident.RequestID, payload Payload, route any) {
	p.now++
	p.message = Message{Header: wire.Header{
		Opcode: wire.OpWrite, Epoch: 1, Session: 5, Request: request, Committed: ident.Seq(request),
		Offset: uint64(request%1000) * 4096, Length: 4096, PayloadLength: 4096,
	}, Payload: payload, Route: route}
	p.machines[1].Step(p.now, &p.message)
	p.settle()
}

func TestASteadyWriteAllocatesNothingAtPrimaryAndBackup(t *testing.T) {
	p := newPair(t)
	var payload Payload = encodedBytes(make([]byte, 4096))
	var route any = p
	request := ident.RequestID(0)
	one := func() {
		request++
		p.write(request, payload, route)
	}
	for range 1000 {
		one()
	}
	if n := testing.AllocsPerRun(1000, one); n > 0 {
		t.Errorf("%v allocations a write", n)
	}
	if p.answers != int(request) {
		t.Errorf("%d answers to %d writes", p.answers, request)
	}
}

func BenchmarkWriteOnTwoReplicas(b *testing.B) {
	p := newPair(b)
	var payload Payload = encodedBytes(make([]byte, 4096))
	var route any = p
	b.ReportAllocs()
	request := ident.RequestID(0)
	for b.Loop() {
		request++
		p.write(request, payload, route)
	}
}
