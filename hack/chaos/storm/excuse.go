package storm

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shale-storage/shale/hack/chaos/plan"
)

// excuse says which writers may end because of a round's faults. The zero value excuses nobody.
//
// I/O never fails by time alone (storenode/client): whatever is cut, killed or stands still, it waits. It fails when
// the Volume is attached elsewhere, which nobody does while the writer's pod is there. So one fault alone may end a
// writer with an error: its own node loses power, and the initiator may die a moment before it. And Kubernetes may take
// away a pod of a node that it cannot hear; such a writer is ended in order and has nothing to complain of. That the
// API server stops excuses nobody: it hears no node then, and I/O goes on without it. Nothing excuses a lost write.
type excuse struct {
	// since is when the faults began: what was wrong before is not theirs.
	since time.Time
	// dead nodes lost their power; of silent ones the API server heard nothing.
	dead, silent map[string]bool
}

// excuseOf are the nodes, by name, that faults hit so.
func excuseOf(faults []plan.Fault, nodes []string, since time.Time) excuse {
	e := excuse{since: since, dead: map[string]bool{}, silent: map[string]bool{}}
	for _, f := range faults {
		switch f.Kind {
		case plan.PowerOff:
			e.dead[nodes[f.Node]] = true
		case plan.CutNode, plan.CutIncoming, plan.CutOutgoing, plan.CutControlOfOne:
			e.silent[nodes[f.Node]] = true
		case plan.CutControlOfTwo:
			e.silent[nodes[f.Node]], e.silent[nodes[f.Other]] = true, true
		case plan.CutAll:
			for _, n := range nodes {
				e.silent[n] = true
			}
		default: // nothing that a writer may feel but as a wait
		}
	}
	return e
}

// ending is that of a writer which nobody here ended.
type ending struct {
	// node it ran on, since started.
	node    string
	started time.Time
	// taken: Kubernetes has taken the pod away; otherwise its container ended.
	taken bool
	// last line of its report.
	last line
}

// judge is nil if the writer may have ended so.
func (e excuse) judge(w ending) error {
	// One that was started since is not among those that the faults hit.
	hit := !w.started.After(e.since)
	switch {
	case w.last.lost():
		return fmt.Errorf("a write is lost: %s", w.last.Error)
	case w.last.Error != "" && w.last.Time.Before(e.since):
		return fmt.Errorf("it failed before the fault: %q", w.last.Error)
	case hit && e.dead[w.node]:
		return nil
	case hit && e.silent[w.node] && w.taken && w.last.Error == "":
		return nil
	case w.taken:
		return fmt.Errorf("somebody has taken its pod away, and nothing that happened excuses that: %q", w.last.Error)
	}
	return fmt.Errorf("it has ended, and nothing that happened excuses that: %q", w.last.Error)
}

// lost tells a lost write, which verifier names so, beside whatever else it says.
func (l line) lost() bool { return strings.Contains(l.Error, "LOST") }

// endedInOrder is nil if the last line of a writer that was told to end while nothing was wrong is as it has to be: it
// has waited for all that was under way, and all of that was right.
func (l line) endedInOrder() error {
	if l.Error != "" {
		return fmt.Errorf("at its end it said %q", l.Error)
	}
	if !l.Ended {
		return errors.New("it was killed, as I/O that was under way did not end")
	}
	return nil
}
