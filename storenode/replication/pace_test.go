package replication

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// play has a script carry out commands and answers what they made Ready.
func play(t *testing.T, s *script, commands ...string) string {
	t.Helper()
	var b strings.Builder
	for _, c := range commands {
		name, args, err := datadriven.ParseLine(c)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(s.run(&datadriven.TestData{Cmd: name, CmdArgs: args}))
	}
	return b.String()
}

// serving is a Primary of three Replicas.
func serving(t *testing.T) *script {
	t.Helper()
	s := &script{t: t}
	play(t, s, "new self=1", "adopt epoch=1 primary=1 insync=(1,2,3)", "connect id=2", "connect id=3",
		"lease id=2 ms=900000", "lease id=3 ms=900000", "persisted",
		"message op=tail from=2 status=ok", "message op=tail from=3 status=ok")
	return s
}

// writes carries out changes of which who is to be late has each after the others by so many milliseconds, and answers
// the first proposal, if there is one.
func writes(t *testing.T, s *script, n int, late string, ms int) string {
	t.Helper()
	for i := 1; i <= n; i++ {
		ends := map[string]string{
			"1": "stored",
			"2": fmt.Sprintf("message op=repl-write from=2 status=ok seq=%d", i),
			"3": fmt.Sprintf("message op=repl-write from=3 status=ok seq=%d", i),
		}
		out := play(t, s, fmt.Sprintf("client op=write request=%d", i), "tick ms=75")
		for _, who := range []string{"1", "2", "3"} {
			if who != late {
				out += play(t, s, ends[who])
			}
		}
		out += play(t, s, fmt.Sprintf("tick ms=%d", ms))
		if end, ok := ends[late]; ok {
			out += play(t, s, end)
		}
		if _, p, ok := strings.Cut(out, "propose "); ok {
			p, _, _ = strings.Cut(p, "\n")
			return p
		}
	}
	return ""
}

func TestAReplicaMuchSlowerThanTheOthersLeaves(t *testing.T) {
	for _, c := range []struct {
		name, late string
		ms         int
		want       string
	}{
		{"a Backup", "3", 750, "epoch 2 primary 1 in sync [1 2]"},
		{"the Primary", "1", 750, "epoch 2 primary 2 in sync [2 3]"},
		{"nobody, though all are slow", "", 750, ""},
		{"nobody, as it is only a little", "3", 300, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := writes(t, serving(t), 100, c.late, c.ms); got != c.want {
				t.Errorf("proposed %q, want %q", got, c.want)
			}
		})
	}
}

func TestASlowReplicaIsLeftOutForAWhile(t *testing.T) {
	s := serving(t)
	writes(t, s, 100, "3", 750)
	play(t, s, "adopt epoch=2 primary=1 insync=(1,2)", "persisted")
	if out := play(t, s, "tick ms=55000"); strings.Contains(out, "rebuild-start") {
		t.Error("it was asked to join at once")
	}
	if out := play(t, s, "tick ms=10000"); !strings.Contains(out, "to 3: rebuild-start") {
		t.Error("it was not asked to join after the pause")
	}
}

func TestTwoReplicasAreNotMadeOneBecauseOneIsSlow(t *testing.T) {
	s := &script{t: t}
	play(t, s, "new self=1", "adopt epoch=1 primary=1 insync=(1,2)", "connect id=2", "lease id=2 ms=900000", "persisted",
		"message op=tail from=2 status=ok")
	if got := writes(t, s, 100, "2", 750); got != "" {
		t.Errorf("proposed %q", got)
	}
}
