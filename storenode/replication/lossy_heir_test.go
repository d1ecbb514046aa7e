package replication

import (
	"errors"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// Replica 1 lost no power and is named Primary; 2 lost power, 3 has not answered yet. The Device of 1 fails one write
// (its Record) before it has begun, or it would pass the Shard on while it asks.
func TestWhoLostNoPowerStaysInSyncThoughItsDeviceFails(t *testing.T) {
	s := &script{t: t}
	do := func(cmd string, args ...datadriven.CmdArg) {
		s.run(&datadriven.TestData{Cmd: cmd, CmdArgs: args})
	}
	a := func(k string, v ...string) datadriven.CmdArg { return datadriven.CmdArg{Key: k, Vals: v} }
	do("new", a("self", "1"))
	do("adopt", a("epoch", "1"), a("primary", "1"), a("insync", "1", "2", "3"))
	do("connect", a("id", "2"))
	do("connect", a("id", "3"))
	do("lease", a("id", "2"))
	do("lease", a("id", "3"))
	do("persisted")
	do("message", a("op", "tail"), a("from", "2"), a("status", "ok"), a("power-lost"))
	s.m.Persisted(s.now, 1, errors.New("the device failed"))
	for {
		r, ok := s.m.Ready()
		if !ok {
			break
		}
		if p := r.Propose; p != nil {
			t.Logf("proposes %+v", *p)
			if !p.IsInSync(1) {
				t.Errorf("the only one known not to have lost power leaves: epoch %d of %v", p.Epoch, p.InSync)
			}
		}
		s.m.Done()
	}
}
