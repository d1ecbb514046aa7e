package shard

import (
	"log/slog"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/replication"
)

// People act on these words: they say which Replica is wrong, and why that one.
func TestFindingsSayWhichReplicaIsWrongAndWhy(t *testing.T) {
	for _, c := range []struct {
		found replication.Finding
		want  Findings
	}{
		{
			replication.Finding{Kind: replication.Healed, Replica: 2, From: 3, Offset: 8192, Length: 4096},
			Findings{Healed: 1, Last: "healed 4096 bytes at 8192 of replica 2 from replica 3"},
		},
		{
			replication.Finding{Kind: replication.Lost, Replica: 2, Offset: 8192, Length: 4096},
			Findings{Lost: 1, Last: "no replica can read 4096 bytes at 8192 of replica 2"},
		},
		{
			replication.Finding{Kind: replication.Stuck, Replica: 2},
			Findings{Stuck: 1, Last: "the device of replica 2 does not answer; another replica is to be primary"},
		},
		{
			replication.Finding{Kind: replication.Slow, Replica: 2},
			Findings{Slow: 1, Last: "replica 2 has writes much later than all others; it leaves for a while"},
		},
		{
			replication.Finding{
				Kind: replication.Differs, Replica: 2, Offset: 1 << 20, Length: 1 << 20, Epochs: [2]ident.Epoch{4, 7},
			},
			Findings{Different: 1, Last: "1048576 bytes at 1048576 of replica 2, last changed in epoch 4, differ from what " +
				"the primary serves, of epoch 7; its own checksums are good, so it missed a write or its device gave one " +
				"up; it gets the primary's"},
		},
		{replication.Finding{Kind: replication.Yielded, From: 3}, Findings{}},
	} {
		r := &replica{host: &Host{o: Options{Log: slog.New(slog.DiscardHandler)}}, monitor: &Monitor{}}
		if r.found(&c.found); r.findings != c.want {
			t.Errorf("%+v: got %+v, want %+v", c.found, r.findings, c.want)
		}
	}
}
