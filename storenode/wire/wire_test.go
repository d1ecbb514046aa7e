package wire

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

func sampleHeader() Header {
	return Header{
		Opcode: OpReplWrite, Flags: FlagFUA, Status: StatusBusy, Length: 4096, Request: 11, Session: 12,
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

// TestAHeaderOfARightChecksumMayBeWrong: the sender may be another program, or one of ours gone mad.
func TestAHeaderOfARightChecksumMayBeWrong(t *testing.T) {
	for what, spoil := range map[string]func(b []byte){
		"magic number":     func(b []byte) { b[0]++ },
		"later version":    func(b []byte) { b[4]++ },
		"reserved at 10":   func(b []byte) { b[11] = 1 },
		"reserved at 116":  func(b []byte) { b[123] = 1 },
		"oversize payload": func(b []byte) { binary.LittleEndian.PutUint32(b[52:], MaxPayload+1) },
	} {
		h := sampleHeader()
		var b [HeaderSize]byte
		h.Encode(b[:])
		spoil(b[:])
		sum(b[:])
		if err := h.Decode(b[:]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Decode says %v", what, err)
		}
	}
}

// sum puts the right checksum into a header.
func sum(b []byte) { binary.LittleEndian.PutUint32(b[crcAt:], CRC(b[:crcAt])) }

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
	gotDigests, err := DecodeDigests(AppendDigests(nil, sampleDigests()), nil)
	if diff := cmp.Diff(sampleDigests(), gotDigests); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func sampleDigests() []ExtentDigest {
	return []ExtentDigest{{}, {Index: 7, Epoch: 1 << 40, Digest: 1 << 63}, {Index: 1<<32 - 1, Epoch: 2, Digest: 3}}
}

// TestTheMostDigestsFitAFrame holds what MaxDigests promises, and that one more is refused.
func TestTheMostDigestsFitAFrame(t *testing.T) {
	var digests []ExtentDigest
	for i := range uint32(MaxDigests) {
		digests = append(digests, ExtentDigest{Index: i})
	}
	most := AppendDigests(nil, digests)
	if _, err := DecodeDigests(most, nil); err != nil || len(most) > MaxPayload {
		t.Errorf("%d bytes, at most %d: %v", len(most), MaxPayload, err)
	}
	more := AppendDigests(nil, append(digests, ExtentDigest{Index: MaxDigests}))
	if _, err := DecodeDigests(more, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("one more: %v", err)
	}
}

func TestDigestsThatDoNotAscendAreRefused(t *testing.T) {
	for _, second := range []uint32{4, 5} {
		bad := AppendDigests(nil, []ExtentDigest{{Index: 5}, {Index: second}})
		if _, err := DecodeDigests(bad, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("extent %d behind 5: %v", second, err)
		}
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
	digests := AppendDigests(nil, sampleDigests())
	for n := range digests {
		if _, err := DecodeDigests(digests[:n], nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d of %d bytes of digests: %v", n, len(digests), err)
		}
	}
	if _, err := DecodeDigests(append(digests, 0), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many behind digests: %v", err)
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
		_ = h.Decode(in)
		// No input comes past the checksum by chance: put the right one in.
		b := make([]byte, HeaderSize)
		copy(b, in)
		sum(b)
		if h.Decode(b) != nil {
			return
		}
		if h.PayloadLength > MaxPayload {
			t.Errorf("a payload of %d bytes is accepted", h.PayloadLength)
		}
		var again [HeaderSize]byte
		h.Encode(again[:])
		if string(again[:]) != string(b) {
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
	f.Add(AppendDigests(nil, sampleDigests()))
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
		digests, err := DecodeDigests(in, nil)
		check("digests", err, AppendDigests(nil, digests))
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
