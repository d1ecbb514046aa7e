package shard_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// The Device (or StoreNode) object of a Primary is deleted, so agents resolve no address for it any more; then another
// Replica is promoted. The former Primary's agent hears nothing of it for now (API server delayed or cut off there).
func takeOver(t *testing.T, addressVanishes bool) {
	t.Helper()
	c := newCluster(t, 2)
	c.volume(1)
	k := newClient(t, c)
	id := shardID(0)
	k.write(id, 0, pattern(1, 1))
	former := c.nodes[0]
	former.authority.Leave() // its agent is told nothing any more

	r := c.register.Record(id)
	if addressVanishes {
		r.Replicas = append([]membership.Replica{}, r.Replicas...)
		r.Replicas[0].Address = "" // places.address: "or empty while nobody is known to"
		if err := c.register.Set(id, r); err != nil {
			t.Fatal(err)
		}
	}
	r.Epoch, r.Primary, r.InSync = r.Epoch+1, 2, []ident.ReplicaID{2}
	promoted := time.Now()
	if err := c.register.Set(id, r); err != nil {
		t.Fatal(err)
	}
	k.write(id, 0, pattern(2, 1)) // by the new Primary
	t.Logf("the new Primary acknowledged a write %v after it was named", time.Since(promoted))
	for _, after := range []time.Duration{0, 2500 * time.Millisecond} {
		time.Sleep(after)
		a, err := k.once(former.address, wire.Header{
			Opcode: wire.OpRead, Shard: id, Length: 4096, Epoch: 1, Generation: 1, Session: k.session, Request: 1000,
		}, nil)
		if err == nil && a.Status == wire.StatusOK {
			t.Errorf("two Primaries: %v after the new one's write, the former answers a read of epoch %d, stale: %v",
				after, a.Epoch, bytes.Equal(a.payload, pattern(1, 1)))
		}
	}
}

// So it is known where the former Primary is: it has said so itself.
func TestAPrimaryWhoseAddressVanishedStopsBeforeAnotherServes(t *testing.T) { takeOver(t, true) }

func TestAPrimaryStopsBeforeAnotherServes(t *testing.T) { takeOver(t, false) }
