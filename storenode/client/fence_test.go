package client

import (
	"context"
	"errors"
	"testing"

	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

func TestAFenceReachesEveryShardBeforeAnythingIsWritten(t *testing.T) {
	x := newCluster(t, 3, 4, testShard)
	v := x.open(t)
	if err := v.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.shards {
		if v.shards[i].flushed == 0 {
			t.Errorf("shard %d was not asked", i)
		}
	}
}

func TestAFenceWaitsForAllShardsAsLongAsItMay(t *testing.T) {
	for name, comes := range map[string]bool{"a Primary comes": true, "none comes": false} {
		t.Run(name, func(t *testing.T) {
			x := newCluster(t, 3, 4, testShard)
			v := x.open(t)
			x.mu.Lock()
			x.records[2].Epoch++
			x.records[2].Primary = 0
			x.mu.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- v.Fence(ctx) }()
			until(func() bool {
				v.mu.Lock()
				defer v.mu.Unlock()
				return v.shards[0].flushed != 0 && v.shards[1].flushed != 0 && v.shards[3].flushed != 0
			})
			select {
			case err := <-ended:
				t.Fatalf("fenced without one of the shards: %v", err)
			default:
			}
			if comes {
				x.promote(1, all)
			} else {
				cancel()
			}
			if err := <-ended; comes && err != nil || !comes && !errors.Is(err, ErrUnreachable) {
				t.Errorf("fence: %v", err)
			}
		})
	}
}

func TestAFenceOfAFormerAttachmentIsRefused(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	newer, err := Open(t.Context(), x.options(2))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = newer.Close() }()
	if err := v.Fence(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("the former attachment fenced the newer: %v", err)
	}
	if !v.Fenced() || newer.Fenced() {
		t.Errorf("the former is fenced: %v, the newer: %v", v.Fenced(), newer.Fenced())
	}
}

func TestAVolumeThatIsFencedSaysSoThoughNobodyHasAsked(t *testing.T) {
	x := newCluster(t, 1, 1, testShard)
	v := x.open(t)
	if v.Fenced() {
		t.Error("fenced by nobody")
	}
	told := transport.Frame{Header: wire.Header{Status: wire.StatusFenced}}
	v.mu.Lock()
	err := v.told(&link{}, &told)
	v.mu.Unlock()
	if err != nil || !v.Fenced() {
		t.Errorf("a map that tells of a newer attachment: %v, fenced %v", err, v.Fenced())
	}
}
