package shard

import (
	"time"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/store"
	"github.com/shale-storage/shale/storenode/wire"
)

var _ replication.Environment = (*replica)(nil)

// LeaseUntil implements replication.Environment.
func (r *replica) LeaseUntil(id ident.ReplicaID) replication.Instant {
	if m := r.member(id); m != nil {
		return m.leaseUntil()
	}
	return 0
}

// Promised implements replication.Environment.
func (r *replica) Promised(id ident.ReplicaID) replication.Instant {
	if p := r.promisee(id); p != nil {
		return p.leases.promised.load()
	}
	return r.host.forgotten.load()
}

// Tail implements replication.Environment.
func (r *replica) Tail(into []wire.TailRecord) []wire.TailRecord {
	r.tail = r.monitor.store.Tail(r.handle, r.tail[:0])
	for _, t := range r.tail {
		into = append(into, wire.TailRecord{
			Seq: t.Seq, Epoch: t.Epoch, Offset: uint64(t.Offset), Length: uint32(t.Length),
		})
	}
	return into
}

// LastSeq implements replication.Environment.
func (r *replica) LastSeq() ident.Seq {
	info, err := r.monitor.store.Info(r.handle)
	if err != nil {
		return 0
	}
	return info.LastSeq
}

// PowerLost implements replication.Environment.
func (r *replica) PowerLost() bool {
	info, err := r.monitor.store.Info(r.handle)
	return err == nil && info.Lossy
}

// Doubtful implements replication.Environment.
func (r *replica) Doubtful(f func(offset, length int64)) { r.monitor.store.Doubtful(r.handle, f) }

// Extents implements replication.Environment.
func (r *replica) Extents(from uint32, f func(wire.ExtentDigest) bool) {
	r.monitor.store.Extents(r.handle, from, func(x store.ExtentInfo) bool {
		return f(wire.ExtentDigest{Index: x.Index, Epoch: x.Epoch, Digest: x.Digest})
	})
}

// Written implements replication.Environment.
func (r *replica) Written(extent uint32) bitmap.Bitmap {
	return r.monitor.store.Written(r.handle, extent)
}

// Checksum implements replication.Environment.
func (r *replica) Checksum(offset int64) (sum uint32, written bool) {
	return r.monitor.store.Checksum(r.handle, offset)
}

// Sum implements replication.Environment.
func (r *replica) Sum(p replication.Payload) uint32 { return store.Sum(bufferOf(p).Bytes()) }

// AcquireRebuild implements replication.Environment.
func (r *replica) AcquireRebuild(bytes int) bool {
	if r.host.rebuilds.Add(1) > MaxRebuilds || !r.host.pace.take(r.host.o.Clock(), bytes) {
		r.host.rebuilds.Add(-1)
		return false
	}
	r.monitor.counts.RebuiltBytes += uint64(bytes)
	return true
}

// Observe implements replication.Environment.
func (r *replica) Observe(latency time.Duration) { r.monitor.latencies.Add(latency) }

// ReleaseRebuild implements replication.Environment.
func (r *replica) ReleaseRebuild() { r.host.rebuilds.Add(-1) }

// Encode implements replication.Environment.
func (r *replica) Encode(encoded []byte) replication.Payload {
	return payloadOf(r.host.encode(encoded))
}

// Bytes implements replication.Environment.
func (r *replica) Bytes(p replication.Payload) []byte { return bufferOf(p).Bytes() }
