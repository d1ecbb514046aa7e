package replication

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// Replica 1 lost no power and is named Primary; 2 lost power, 3 has not answered yet. The Device of 1 fails one write
// (its Record) after it has begun to ask: then 3 is waited for, as 2 may miss what 1 has, and is Primary when it has
// answered that it lost nothing.
func TestWhoLostNoPowerIsNotReplacedByWhoDid(t *testing.T) {
	s := &script{t: t}
	do := func(cmd string, args ...datadriven.CmdArg) string {
		return s.run(&datadriven.TestData{Cmd: cmd, CmdArgs: args})
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
	if got := do("persisted", a("err")); strings.Contains(got, "propose") {
		t.Errorf("3 has not answered yet:\n%s", got)
	}
	got := do("message", a("op", "tail"), a("from", "3"), a("status", "ok"))
	if !strings.Contains(got, "propose epoch 2 primary 3") {
		t.Errorf("3 lost nothing, and is not to be Primary:\n%s", got)
	}
}
