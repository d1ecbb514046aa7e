package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

const (
	devicePrefix    = "dev-"
	candidatePrefix = "cand-"
	transportTCP    = "tcp"
)

// deviceName is the name of the Device object of a claimed Device.
func deviceName(id ident.UUID) string { return devicePrefix + id.String() }

// deviceID is the inverse of deviceName.
func deviceID(name string) (ident.UUID, error) {
	text, ok := strings.CutPrefix(name, devicePrefix)
	if !ok {
		return ident.UUID{}, fmt.Errorf("parse device name %q: want %sUUID", name, devicePrefix)
	}
	return ident.ParseUUID(text)
}

// candidateName is the name of the Device object that tells of a Device which was selected but must not be touched.
func candidateName(node, path string) string {
	sum := sha256.Sum256([]byte(node + "\x00" + path))
	return candidatePrefix + node + "-" + hex.EncodeToString(sum[:6])
}

// shardID is the name of the Shard in the data plane.
func shardID(spec *v1alpha1.ShardSpec) (ident.ShardID, error) {
	volume, err := ident.ParseUUID(spec.VolumeID)
	if err != nil {
		return ident.ShardID{}, fmt.Errorf("read volumeID: %w", err)
	}
	return ident.ShardID{Volume: volume, Index: uint32(spec.Index)}, nil
}

// record is the Shard object's membership as the data plane has it. address tells where a Device is served now.
func record(spec *v1alpha1.ShardSpec, address func(device string) string) (membership.Record, error) {
	r := membership.Record{
		Epoch:   ident.Epoch(spec.Membership.Epoch),
		Primary: ident.ReplicaID(spec.Membership.Primary),
		InSync:  replicaIDs(spec.Membership.InSync),
	}
	if len(spec.Replicas) > membership.MaxReplicas {
		return r, fmt.Errorf("read replicas: %d of them, at most %d are possible", len(spec.Replicas), membership.MaxReplicas)
	}
	for _, c := range spec.Replicas {
		device, err := deviceID(c.DeviceName)
		if err != nil {
			return r, fmt.Errorf("read replica %d: %w", c.ID, err)
		}
		r.Replicas = append(r.Replicas, membership.Replica{
			ID: ident.ReplicaID(c.ID), Device: device, Address: address(c.DeviceName),
		})
	}
	slices.SortFunc(r.Replicas, func(a, b membership.Replica) int { return int(a.ID) - int(b.ID) })
	return r, nil
}

// asObject is a Record as a Shard object has it.
func asObject(r membership.Record) v1alpha1.ShardMembership {
	m := v1alpha1.ShardMembership{Epoch: int64(r.Epoch), Primary: int64(r.Primary)}
	for _, id := range r.InSync {
		m.InSync = append(m.InSync, int64(id))
	}
	return m
}

func replicaIDs(in []int64) []ident.ReplicaID {
	out := make([]ident.ReplicaID, 0, len(in))
	for _, id := range in {
		out = append(out, ident.ReplicaID(id))
	}
	slices.Sort(out)
	return out
}
