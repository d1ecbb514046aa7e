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

// happen lets a fault happen and heals it. It is errNobody if there was nobody to hit.
func (s *Storm) happen(ctx context.Context, f plan.Fault) error {
	node, other := s.Nodes()[f.Node], s.Nodes()[f.Other]
	switch f.Kind {
	case plan.KillStorenode:
		return storenode.kill(node)
	case plan.EndStorenode:
		return storenode.hit([]*lab.Node{node}, (*lab.Node).Terminate)
	case plan.KillInitiator:
		return initiator.kill(node)
	case plan.KillOperators:
		return operator.kill(s.Nodes()...)
	case plan.KillCSI:
		return errors.Join(controller.kill(s.Nodes()...), plugin.kill(s.Nodes()...))
	case plan.PauseStorenode:
		return storenode.pause(ctx, f.For, node)
	case plan.PauseOperators:
		return operator.pause(ctx, f.For, s.Nodes()...)
	case plan.StopAPI:
		return s.between(ctx, f.For, s.StopAPIServer, func() error { return s.StartAPIServer(ctx) })
	case plan.PowerOff:
		return s.between(ctx, f.For, func() error { return node.PowerOff(ctx) }, func() error { return node.PowerOn(ctx) })
	case plan.FailDevice:
		return s.between(ctx, f.For,
			func() error { return storenode.hit([]*lab.Node{node}, (*lab.Node).FailWrites) },
			func() error { return unlessNobody(storenode.kill(node)) }) // one that ended is healed, too
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

// unlessNobody forgives a fault that hit nobody.
func unlessNobody(err error) error {
	if errors.Is(err, errNobody) {
		return nil
	}
	return err
}

// device is the file of a node's Device.
func device(n *lab.Node) string { return filepath.Join(n.Root(), "/var/lib/shale/devices/ssd0.img") }

const away = ".away"

// loseDevice has a storenode come back without its Device, as after a reboot that an SSD does not survive.
func loseDevice(n *lab.Node) error {
	if err := os.Rename(device(n), device(n)+away); err != nil {
		return err
	}
	return storenode.kill(n)
}

func findDevice(n *lab.Node) error { return os.Rename(device(n)+away, device(n)) }
