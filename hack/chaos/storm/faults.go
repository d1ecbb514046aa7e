package storm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shale-storage/shale/hack/chaos/plan"
	"github.com/shale-storage/shale/hack/lab"
)

// happen lets a fault happen and heals it.
func (s *Storm) happen(ctx context.Context, f plan.Fault) error {
	node, other := s.Nodes()[f.Node], s.Nodes()[f.Other]
	switch f.Kind {
	case plan.KillStorenode:
		return kill(node, "storenode")
	case plan.KillOperators:
		return s.onAll(func(n *lab.Node) error { return kill(n, "operator") })
	case plan.KillCSI:
		return s.onAll(func(n *lab.Node) error {
			return errors.Join(kill(n, "shale-csi", "controller"), kill(n, "shale-csi", "node"))
		})
	case plan.PauseStorenode:
		return s.pause(ctx, f.For, []*lab.Node{node}, "storenode")
	case plan.PauseOperators:
		return s.pause(ctx, f.For, s.Nodes(), "operator")
	case plan.StopAPI:
		return s.between(ctx, f.For, s.StopAPIServer, func() error { return s.StartAPIServer(ctx) })
	case plan.PowerOff:
		return s.between(ctx, f.For, func() error { return node.PowerOff(ctx) }, func() error { return node.PowerOn(ctx) })
	case plan.FailDevice:
		return s.between(ctx, f.For,
			func() error { return failWrites(node) }, func() error { return kill(node, "storenode") })
	case plan.LoseDevice:
		return s.between(ctx, f.For, func() error { return loseDevice(node) }, func() error { return findDevice(node) })
	case plan.FillDevice:
		return s.fill(ctx, f.For)
	case plan.MoveWriter:
		return s.move(ctx, s.writers[f.Node%len(s.writers)])
	default:
		return s.network(ctx, f, node, other)
	}
}

// network has the faults of links.
func (s *Storm) network(ctx context.Context, f plan.Fault, node, other *lab.Node) error {
	var hit []*lab.Node
	var cut func() error
	switch f.Kind {
	case plan.CutNode:
		hit, cut = []*lab.Node{node}, func() error { return node.Cut(ctx) }
	case plan.CutIncoming:
		hit, cut = []*lab.Node{node}, func() error { return node.CutIncoming(ctx) }
	case plan.CutOutgoing:
		hit, cut = []*lab.Node{node}, func() error { return node.CutOutgoing(ctx) }
	case plan.CutPair:
		hit = []*lab.Node{node, other}
		cut = func() error { return errors.Join(node.CutTo(ctx, other), other.CutTo(ctx, node)) }
	case plan.CutPairOneWay:
		hit, cut = []*lab.Node{node}, func() error { return node.CutTo(ctx, other) }
	case plan.CutStorage:
		hit, cut = s.Nodes(), func() error { return s.cutStorage(ctx, node) }
	case plan.CutAll:
		hit, cut = s.Nodes(), func() error { return s.onAll(func(n *lab.Node) error { return n.Cut(ctx) }) }
	case plan.CutControlOfOne:
		hit, cut = []*lab.Node{node}, func() error { return node.CutToControlPlane(ctx) }
	case plan.CutControlOfTwo:
		hit = []*lab.Node{node, other}
		cut = func() error { return errors.Join(node.CutToControlPlane(ctx), other.CutToControlPlane(ctx)) }
	default:
		return fmt.Errorf("make fault of unknown kind %q", f.Kind)
	}
	return s.between(ctx, f.For, cut, func() error {
		var failed []error
		for _, n := range hit {
			failed = append(failed, n.Heal(ctx))
		}
		return errors.Join(failed...)
	})
}

// cutStorage parts a node from all others, and not from the control plane.
func (s *Storm) cutStorage(ctx context.Context, node *lab.Node) error {
	var failed []error
	for _, other := range s.Nodes() {
		if other != node {
			failed = append(failed, node.CutTo(ctx, other), other.CutTo(ctx, node))
		}
	}
	return errors.Join(failed...)
}

// between begins a fault and ends it.
func (s *Storm) between(ctx context.Context, d time.Duration, begin, end func() error) error {
	if err := begin(); err != nil {
		return err
	}
	if err := sleep(ctx, d); err != nil {
		return err
	}
	return end()
}

func (s *Storm) onAll(do func(*lab.Node) error) error {
	var failed []error
	for _, n := range s.Nodes() {
		failed = append(failed, do(n))
	}
	return errors.Join(failed...)
}

// pause makes processes stand still. One that was killed meanwhile, by another fault, needs no end.
func (s *Storm) pause(ctx context.Context, d time.Duration, nodes []*lab.Node, program string) error {
	var resume []func()
	defer func() {
		for _, r := range resume {
			r()
		}
	}()
	for _, n := range nodes {
		pids, err := n.Processes(program)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := n.Pause(pid); err == nil {
				resume = append(resume, func() { _ = n.Resume(pid) })
			}
		}
	}
	return sleep(ctx, d)
}

// kill ends all processes of a kind on a node. One that is not there, or ended by itself, is as dead as it can be.
func kill(n *lab.Node, program string, words ...string) error {
	pids, err := n.Processes(program, words...)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		_ = n.Kill(pid)
	}
	return nil
}

// device is the file of a node's Device.
func device(n *lab.Node) string { return filepath.Join(n.Root(), "/var/lib/shale/devices/ssd0.img") }

const away = ".away"

// loseDevice has a storenode come back without its Device, as after a reboot that an SSD does not survive.
func loseDevice(n *lab.Node) error {
	if err := os.Rename(device(n), device(n)+away); err != nil {
		return err
	}
	return kill(n, "storenode")
}

func findDevice(n *lab.Node) error { return os.Rename(device(n)+away, device(n)) }

// failWrites lets the storenode's Device fail.
func failWrites(n *lab.Node) error {
	pids, err := n.Processes("storenode")
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := n.FailWrites(pid); err != nil {
			return err
		}
	}
	return nil
}
