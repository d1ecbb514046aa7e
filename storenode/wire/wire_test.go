package wire

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

func sampleHeader() Header {
	return Header{
		Opcode: OpReplWrite, Flags: FlagFUA, Status: StatusBusy, Credits: 7, Length: 4096, Request: 11, Session: 12,
		Shard:         ident.ShardID{Volume: ident.UUID{1, 2, 3}, Index: 9},
		PayloadLength: 4096, Epoch: 1 << 40, Generation: 5, Snapshot: 6, Offset: 1 << 33, Seq: 77, Committed: 76,
		From: 1, To: 2, PayloadCRC: 0xdeadbeef,
	}
}

func sampleRecord() membership.Record {
	return membership.Record{Epoch: 4, Primary: 2, InSync: []ident.ReplicaID{2, 3}, Replicas: []membership.Replica{
		{ID: 1, Device: ident.UUID{1}, Address: "10.10.0.1:7800"}, {ID: 2, Device: ident.UUID{2}}, {ID: 3, Address: "n3:1"},
	}}
}

func TestAHeaderComesBackAsItWas(t *testing.T) {
	want := sampleHeader()
	var b [HeaderSize]byte
	want.Encode(b[:])
	var got Header
	if err := got.Decode(b[:]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnyFlippedBitOfAHeaderIsRefused(t *testing.T) {
	h := sampleHeader()
	var b [HeaderSize]byte
	h.Encode(b[:])
	for bit := range HeaderSize * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		var got Header
		if err := got.Decode(b[:]); !errors.Is(err, ErrMalformed) {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func TestAnOversizedPayloadIsRefusedByItsHeader(t *testing.T) {
	h := sampleHeader()
	h.PayloadLength = MaxPayload + 1
	var b [HeaderSize]byte
	h.Encode(b[:])
	if err := h.Decode(b[:]); !errors.Is(err, ErrMalformed) {
		t.Errorf("Decode says %v", err)
	}
}

func TestPayloadsComeBackAsTheyWere(t *testing.T) {
	hello := Hello{Role: RoleStoreNode, Name: "n1", Address: "10.10.0.1:7800", Incarnation: 1 << 60}
	var gotHello Hello
	if err := gotHello.Decode(hello.Append(nil)); err != nil || gotHello != hello {
		t.Errorf("hello %+v, %v", gotHello, err)
	}
	record, err := DecodeRecord(AppendRecord(nil, sampleRecord()))
	if diff := cmp.Diff(sampleRecord(), record); diff != "" || err != nil {
		t.Error(err, diff)
	}
	page := MapPage{
		Volume: ident.UUID{9}, Size: 1 << 30, ShardSize: 1 << 28, Generation: 3, Shards: 4, First: 2,
		Records: []membership.Record{sampleRecord(), sampleRecord()},
	}
	var gotPage MapPage
	err = gotPage.Decode(page.Append(nil))
	if diff := cmp.Diff(page, gotPage); diff != "" || err != nil {
		t.Error(err, diff)
	}
	tail := []TailRecord{{Seq: 1, Epoch: 2, Offset: 4096, Length: 8192}, {Seq: 2, Epoch: 2}}
	gotTail, err := DecodeTail(AppendTail(nil, tail), nil)
	if diff := cmp.Diff(tail, gotTail); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// TestTheLargestMapPageFitsAFrame holds what MaxPageShards promises.
func TestTheLargestMapPageFitsAFrame(t *testing.T) {
	var big membership.Record
	for i := range membership.MaxReplicas {
		big.InSync = append(big.InSync, ident.ReplicaID(i))
		big.Replicas = append(big.Replicas, membership.Replica{Address: string(make([]byte, MaxName))})
	}
	page := MapPage{Size: 4096, ShardSize: 4096, Shards: MaxPageShards}
	for range MaxPageShards {
		page.Records = append(page.Records, big)
	}
	if n := len(page.Append(nil)); n > MaxPayload {
		t.Errorf("%d bytes, at most %d", n, MaxPayload)
	}
}

func TestAPayloadCutShortOrTooLongIsRefused(t *testing.T) {
	page := MapPage{Size: 4096, ShardSize: 4096, Shards: 1, Records: []membership.Record{sampleRecord()}}
	whole := page.Append(nil)
	for n := range whole {
		if err := new(MapPage).Decode(whole[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	if err := new(MapPage).Decode(append(whole, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
}

func FuzzHeader(f *testing.F) {
	h := sampleHeader()
	var b [HeaderSize]byte
	h.Encode(b[:])
	f.Add(b[:])
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var h Header
		if h.Decode(in) != nil {
			return
		}
		var again [HeaderSize]byte
		h.Encode(again[:])
		if string(again[:]) != string(in[:HeaderSize]) {
			t.Error("accepted bytes do not encode to themselves")
		}
	})
}

func FuzzPayloads(f *testing.F) {
	page := MapPage{Size: 4096, ShardSize: 4096, Shards: 1, Records: []membership.Record{sampleRecord()}}
	hello := Hello{Role: RoleClient, Name: "n"}
	f.Add(page.Append(nil))
	f.Add(hello.Append(nil))
	f.Add(AppendTail(nil, []TailRecord{{Seq: 1}}))
	f.Fuzz(func(t *testing.T, in []byte) {
		check := func(what string, err error, again []byte) {
			if err == nil && string(again) != string(in) {
				t.Errorf("%s: accepted bytes do not encode to themselves", what)
			}
		}
		var p MapPage
		err := p.Decode(in)
		check("page", err, p.Append(nil))
		var h Hello
		err = h.Decode(in)
		check("hello", err, h.Append(nil))
		record, err := DecodeRecord(in)
		check("record", err, AppendRecord(nil, record))
		tail, err := DecodeTail(in, nil)
		check("tail", err, AppendTail(nil, tail))
	})
}

func BenchmarkHeader(b *testing.B) {
	h := sampleHeader()
	h.Offset = rand.Uint64()
	var buf [HeaderSize]byte
	b.ReportAllocs()
	for b.Loop() {
		h.Encode(buf[:])
		if err := h.Decode(buf[:]); err != nil {
			b.Fatal(err)
		}
	}
}
