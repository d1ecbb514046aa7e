// Package membership is the record that says who serves a Shard: {epoch, primary, inSync} and where each Replica lives.
//
// The record's home is the Shard object's spec; each Replica keeps the highest record it has seen on its Device.
// It changes only by compare-and-swap, each time with Epoch + 1 (PacificA, Lin et al. 2008). The functions here
// compute the next record; they never change the one they are given. Pure: no I/O, clock, goroutine or lock.
package membership

import (
	"slices"

	"github.com/shale-storage/shale/storenode/ident"
)

// MaxReplicas bounds the Replicas of a Shard, those being rebuilt or replaced included.
const MaxReplicas = 8

// Replica is one copy of the Shard and its place.
type Replica struct {
	// ID is never used again within the Shard.
	ID ident.ReplicaID
	// Device is the identity in the Superblock of the Device that holds the Replica.
	Device ident.UUID
	// Address is the host:port of the storenode that has the Device now. It may change without a new Epoch.
	Address string
}

// Record is one membership of a Shard.
type Record struct {
	Epoch ident.Epoch
	// Primary orders the writes of this Epoch; 0 while no InSync Replica is able to.
	Primary ident.ReplicaID
	// InSync hold every acknowledged write of this Epoch; Primary is one of them. Ascending.
	InSync []ident.ReplicaID
	// Replicas are all copies, InSync or not. Ascending by ID.
	Replicas []Replica
}

// Has reports whether id is one of the Replicas, InSync or not.
func (r Record) Has(id ident.ReplicaID) bool {
	_, ok := r.Find(id)
	return ok
}

// Find is the Replica named id.
func (r Record) Find(id ident.ReplicaID) (Replica, bool) {
	for _, c := range r.Replicas {
		if c.ID == id {
			return c, true
		}
	}
	return Replica{}, false
}

// IsInSync reports whether id holds every acknowledged write.
func (r Record) IsInSync(id ident.ReplicaID) bool { return slices.Contains(r.InSync, id) }
