package storm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shale-storage/shale/hack/lab"
)

// program is one of Shale's, as lab.Node.Processes finds it: by its name and by words of its command line.
type program struct {
	name string
	word string
	// onEach node there is one; otherwise two in all.
	onEach bool
}

// Programs that faults hit.
var (
	storenode  = program{name: "storenode", word: "run", onEach: true}
	operator   = program{name: "operator", word: "--leader-elect"}
	controller = program{name: "shale-csi", word: "controller"}
	plugin     = program{name: "shale-csi", word: "node", onEach: true}
	// The initiator runs as the child of a process that starts it anew. Its flag tells that one; the child ends with it.
	initiator = program{name: "shale-csi", word: "--restart", onEach: true}
	holder    = program{name: "shale-csi", word: "holder", onEach: true}
)

// errNobody says that a fault had nobody to fall on, so that it was none.
var errNobody = errors.New("no process is there that it could hit")

func (p program) on(n *lab.Node) ([]int, error) { return n.Processes(p.name, p.word) }

// hit does something to all processes of a program on some nodes. One that ended meanwhile was not hit; if none was, it
// is errNobody.
func (p program) hit(nodes []*lab.Node, do func(n *lab.Node, pid int) error) error {
	count := 0
	var last error
	for _, n := range nodes {
		pids, err := p.on(n)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := do(n, pid); err != nil {
				last = err
				continue
			}
			count++
		}
	}
	if count == 0 {
		return errors.Join(fmt.Errorf("%s %s: %w", p.name, p.word, errNobody), last)
	}
	return nil
}

// kill ends all processes of a program on some nodes.
func (p program) kill(nodes ...*lab.Node) error {
	return p.hit(nodes, func(n *lab.Node, pid int) error { return n.Kill(pid) })
}

// pause makes them stand still for a while. One that was killed meanwhile, by another fault, needs no end.
func (p program) pause(ctx context.Context, d time.Duration, nodes ...*lab.Node) error {
	var resume []func()
	defer func() {
		for _, r := range resume {
			r()
		}
	}()
	err := p.hit(nodes, func(n *lab.Node, pid int) error {
		if err := n.Pause(pid); err != nil {
			return err
		}
		resume = append(resume, func() { _ = n.Resume(pid) })
		return nil
	})
	if err != nil {
		return err
	}
	return sleep(ctx, d)
}

// present says which program is not there.
func (s *Storm) present() error {
	for _, p := range []program{storenode, operator, controller, plugin, initiator, holder} {
		all := 0
		for _, n := range s.Nodes() {
			pids, err := p.on(n)
			if err != nil {
				return err
			}
			if p.onEach && len(pids) == 0 {
				return fmt.Errorf("%s %s does not run on %s", p.name, p.word, n.Name)
			}
			all += len(pids)
		}
		if all < 2 {
			return fmt.Errorf("%s %s runs %d times", p.name, p.word, all)
		}
	}
	return nil
}

// wasFull is nil if verifier fill says that it ended for want of space.
func wasFull(said string) error {
	var filled struct{ Full bool }
	if err := json.Unmarshal([]byte(said), &filled); err != nil {
		return fmt.Errorf("read what the filler said, %q: %w", said, err)
	}
	if !filled.Full {
		return fmt.Errorf("fill devices: there was room for all: %s", said)
	}
	return nil
}
