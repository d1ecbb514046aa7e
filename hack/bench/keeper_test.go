package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

// writer is a child's input that nobody reads yet.
type writer struct{ bytes.Buffer }

func (*writer) Close() error { return nil }

// newTestKeeper keeps a Volume of two Shards on three storenodes, with Epoch 1.
func newTestKeeper() (*keeper, []*child) {
	k := newKeeper(&options{size: 2 << 20, shardSize: 1 << 20}, ident.UUID{7})
	var children []*child
	for i := range 3 {
		in := &writer{}
		children = append(children, &child{
			hello: hello{Address: string(rune('a' + i)), Device: ident.UUID{byte(i + 1)}}, input: in, orders: gob.NewEncoder(in),
		})
	}
	k.children = slices.Clone(children)
	for i := range k.volume.Shards {
		k.volume.Shards[i] = membership.Record{
			Epoch: 1, Primary: ident.ReplicaID(i + 1), InSync: []ident.ReplicaID{1, 2, 3}, Replicas: places(children),
		}
	}
	return k, children
}

// orders are all that a storenode was told.
func orders(t *testing.T, c *child) (all []order) {
	t.Helper()
	in := c.input.(*writer)
	for told := gob.NewDecoder(in); in.Len() > 0; {
		var o order
		if err := told.Decode(&o); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

func evicting(epoch ident.Epoch, inSync ...ident.ReplicaID) proposal {
	return proposal{Shard: ident.ShardID{Volume: ident.UUID{7}}, Record: membership.Record{
		Epoch: epoch, Primary: 1, InSync: inSync,
	}}
}

func TestTheKeeperTakesWhatFollowsTheRecordInForceAndTellsAll(t *testing.T) {
	k, children := newTestKeeper()
	k.leaves(children[2])
	k.proposed(children[0], evicting(3, 1, 2)) // too early
	k.proposed(children[0], evicting(2, 1, 2))
	k.proposed(children[0], evicting(2, 1, 2, 3)) // too late
	if err := k.failure(); err != nil {
		t.Fatal(err)
	}
	told := orders(t, children[0])
	if len(told) != 4 {
		t.Fatalf("the proposer was told %d times, want 3 outcomes and 1 change", len(told))
	}
	if early := told[0].Decided; early == nil || early.Record.Epoch != 1 {
		t.Errorf("who is too early is told %+v", early)
	}
	if late := told[3].Decided; late == nil || late.Record.Epoch != 2 || late.Record.IsInSync(3) {
		t.Errorf("who is too late is told %+v", late)
	}
	others := orders(t, children[1])
	if len(others) != 1 || others[0].Map == nil || others[0].Map.Shards[0].Epoch != 2 {
		t.Errorf("the other one was told %+v", others)
	}
	if len(orders(t, children[2])) != 0 {
		t.Error("who has left was told")
	}
}

func TestWhoReturnsIsToldOfAtItsNewAddress(t *testing.T) {
	k, children := newTestKeeper()
	k.leaves(children[2])
	back := &writer{}
	k.returns(&child{hello: hello{"new", children[2].Device}, input: back, orders: gob.NewEncoder(back)})
	for _, o := range orders(t, children[0]) {
		for _, d := range o.Desired {
			if r, _ := d.Record.Find(3); r.Address != "new" || d.Record.Epoch != 1 {
				t.Errorf("shard %s: replica 3 is at %q in epoch %d", d.Shard, r.Address, d.Record.Epoch)
			}
		}
	}
	if back.Len() == 0 {
		t.Error("who returned was told nothing")
	}
}

func TestAnythingElseThanThePlannedRebuildMakesTheFiguresWorthless(t *testing.T) {
	for name, change := range map[string]func(*keeper, []*child){
		"a change while nothing may": func(k *keeper, all []*child) { k.proposed(all[0], evicting(2, 1, 2)) },
		"another is evicted": func(k *keeper, all []*child) {
			k.leaves(all[2])
			k.proposed(all[0], evicting(2, 1, 3))
		},
		"a process ends":      func(k *keeper, all []*child) { k.ended(all[1]) },
		"a primary is silent": func(k *keeper, all []*child) { k.silent(all[1], []string{"a"}) },
	} {
		k, children := newTestKeeper()
		change(k, children)
		never := func(*membership.Record) bool { return false }
		if err := k.wait(t.Context(), time.Hour, never); err == nil || !errors.Is(err, k.failure()) {
			t.Errorf("%s: the wait ends with %v", name, err)
		}
		if k.volume.Shards[0].Epoch != 1 {
			t.Errorf("%s: the record has changed", name)
		}
	}
}

func TestAWaitEndsInTime(t *testing.T) {
	k, _ := newTestKeeper()
	never := func(*membership.Record) bool { return false }
	if err := k.wait(context.Background(), time.Millisecond, never); !errors.Is(err, errLate) {
		t.Errorf("it ends with %v", err)
	}
}
