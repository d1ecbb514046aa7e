package storm

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/hack/chaos/plan"
)

var (
	nodeNames = []string{"n1", "n2", "n3"}
	began     = time.Unix(1000, 0)
	earlier   = began.Add(-time.Minute)
	later     = began.Add(time.Second)
)

func TestWhoIsExcusedByWhichFault(t *testing.T) {
	type set = map[string]bool
	dead := map[plan.Kind]set{plan.PowerOff: {"n2": true}}
	silent := map[plan.Kind]set{
		plan.CutNode: {"n2": true}, plan.CutIncoming: {"n2": true}, plan.CutOutgoing: {"n2": true},
		plan.CutControlOfOne: {"n2": true}, plan.CutControlOfTwo: {"n2": true, "n3": true},
		plan.CutAll: {"n1": true, "n2": true, "n3": true},
	}
	for _, kind := range plan.Kinds() {
		e := excuseOf([]plan.Fault{{Kind: kind, Node: 1, Other: 2}}, nodeNames, began)
		for _, node := range nodeNames {
			failed := ending{node: node, started: earlier, last: line{Time: later, Error: "input/output error"}}
			if got, want := e.judge(failed) == nil, dead[kind][node]; got != want {
				t.Errorf("after %q a writer with an I/O error on %s is excused: %t, want %t", kind, node, got, want)
			}
			taken := ending{node: node, started: earlier, taken: true, last: line{Time: later, Ended: true}}
			if got, want := e.judge(taken) == nil, dead[kind][node] || silent[kind][node]; got != want {
				t.Errorf("after %q a writer on %s whose pod was taken away is excused: %t, want %t", kind, node, got, want)
			}
			ended := ending{node: node, started: earlier, last: line{Time: later}}
			if got, want := e.judge(ended) == nil, dead[kind][node]; got != want {
				t.Errorf("after %q a writer that ended on %s is excused: %t, want %t", kind, node, got, want)
			}
		}
	}
}

func TestOneOfTwoFaultsExcusesItsOwnNodeOnly(t *testing.T) {
	e := excuseOf([]plan.Fault{{Kind: plan.KillStorenode, Node: 0}, {Kind: plan.CutNode, Node: 1}}, nodeNames, began)
	for node, want := range map[string]bool{"n1": false, "n2": true, "n3": false} {
		if got := e.judge(ending{node: node, started: earlier, taken: true}) == nil; got != want {
			t.Errorf("a writer on %s is excused: %t", node, got)
		}
	}
}

func TestNothingExcusesWhatTheFaultDidNotDo(t *testing.T) {
	e := excuseOf([]plan.Fault{{Kind: plan.PowerOff, Node: 1}}, nodeNames, began)
	right := ending{node: "n2", started: earlier, last: line{Time: later, Error: "input/output error"}}
	if err := e.judge(right); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ending){
		"a lost write":                         func(w *ending) { w.last.Error = "input/output error\nLOST: block 7" },
		"an error before the fault":            func(w *ending) { w.last.Time = began.Add(-time.Second) },
		"a pod that came after the fault":      func(w *ending) { w.started = later },
		"a node that is not among the fault's": func(w *ending) { w.node = "n1" },
		"a node that is not known":             func(w *ending) { w.node = "" },
	} {
		wrong := right
		change(&wrong)
		if e.judge(wrong) == nil {
			t.Errorf("%s is excused", name)
		}
	}
	if (excuse{}).judge(ending{node: "n2"}) == nil {
		t.Error("no fault excuses somebody")
	}
}

func TestAWriterThatWasToldToEndComplainsOfNothing(t *testing.T) {
	if err := (line{Ended: true, Acknowledged: 7}).endedInOrder(); err != nil {
		t.Error(err)
	}
	for name, l := range map[string]line{
		"a lost write":     {Ended: true, Error: "LOST: block 7"},
		"an I/O error":     {Ended: true, Error: "input/output error"},
		"I/O without end":  {Acknowledged: 7},
		"no report at all": {},
	} {
		if l.endedInOrder() == nil {
			t.Errorf("%s passes", name)
		}
	}
}
