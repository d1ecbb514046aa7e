package shard

import (
	"slices"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// maxRetired bounds the deleted Volumes that are remembered.
const maxRetired = 4096

// volume is a published map; its generation may be raised by who opens it.
type volume struct {
	VolumeMap
	// retired: it is deleted, and has no map any more.
	retired bool
}

// Publish implements Manager.
func (h *Host) Publish(m VolumeMap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.volumes[m.Volume]; old != nil {
		m.Generation = max(m.Generation, old.Generation)
	}
	h.volumes[m.Volume] = &volume{VolumeMap: m}
}

// Unpublish implements Manager.
func (h *Host) Unpublish(id ident.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.volumes[id]; v != nil && !v.retired {
		delete(h.volumes, id)
	}
}

// Retire implements Manager.
func (h *Host) Retire(id ident.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.volumes[id]; v != nil && v.retired {
		return
	}
	h.volumes[id] = &volume{retired: true}
	h.retired = append(h.retired, id)
	if len(h.retired) <= maxRetired {
		return
	}
	if oldest := h.volumes[h.retired[0]]; oldest != nil && oldest.retired {
		delete(h.volumes, h.retired[0])
	}
	h.retired = append(h.retired[:0], h.retired[1:]...)
}

// open answers OPEN with the page of the map that begins with the Shard the request names. Outside of monitors.
func (h *Host) open(l *link, request *wire.Header) {
	answer := *request
	answer.Flags |= wire.FlagReply
	page, status := h.page(request)
	if answer.Status = status; status != wire.StatusOK {
		l.sendOne(answer, nil)
		return
	}
	h.fence(request.Shard.Volume, request.Generation)
	if request.Flags&wire.FlagUnreached != 0 {
		h.plead(request.Shard, request.Epoch)
	}
	payload := h.encode(page.Append(nil))
	if payload == nil {
		answer.Status = wire.StatusBusy
		l.sendOne(answer, nil)
		return
	}
	l.sendOne(answer, payload)
}

// plead has the Replicas of a Shard here ask the Primary of that Epoch to yield.
func (h *Host) plead(shard ident.ShardID, epoch ident.Epoch) {
	h.mu.RLock()
	replicas := slices.Clone(h.shards[shard])
	h.mu.RUnlock()
	for _, r := range replicas {
		r.monitor.Enter()
		r.machine.Plead(h.o.Clock(), epoch)
		r.touch()
		r.monitor.Leave()
	}
}

func (h *Host) page(request *wire.Header) (*wire.MapPage, wire.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.volumes[request.Shard.Volume]
	first := int(request.Shard.Index)
	switch {
	case v == nil:
		return nil, wire.StatusNotFound
	case v.retired, request.Generation < v.Generation:
		return nil, wire.StatusFenced
	case first > 0 && first >= len(v.Shards):
		return nil, wire.StatusInvalid
	}
	v.Generation = request.Generation
	end := min(first+wire.MaxPageShards, len(v.Shards))
	page := &wire.MapPage{
		Volume: v.Volume, Size: v.Size, ShardSize: v.ShardSize, Generation: v.Generation,
		Shards: uint32(len(v.Shards)), First: uint32(first), Records: slices.Clone(v.Shards[first:end]),
	}
	for i := range page.Records {
		shard := ident.ShardID{Volume: v.Volume, Index: page.First + uint32(i)}
		page.Records[i] = h.newestLocked(shard, page.Records[i])
	}
	return page, wire.StatusOK
}

// newestLocked is the newer of a published Record and what the Replicas here know.
func (h *Host) newestLocked(shard ident.ShardID, record membership.Record) membership.Record {
	for _, r := range h.shards[shard] {
		if known := r.view.Load().record; known.Epoch > record.Epoch {
			record = known
		}
	}
	return record
}

// fence makes the Replicas of a Volume here refuse older attachments.
func (h *Host) fence(id ident.UUID, g ident.Generation) {
	h.mu.RLock()
	replicas := h.replicas
	h.mu.RUnlock()
	for _, r := range replicas {
		if r.key.Shard.Volume == id {
			r.monitor.Enter()
			r.fence(g)
			r.monitor.Leave()
		}
	}
}
