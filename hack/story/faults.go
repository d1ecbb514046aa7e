package story

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shale-storage/shale/hack/lab"
)

// Faults are steps that only tests take, after the story: machines and cables fail under the same two writers.
func (s *Story) Faults() []Step {
	return []Step{
		{"Claim anew", s.claim},
		{"Start the writers anew", s.startWriters},
		{"Restart all storenodes one by one under load", s.rollout},
		{"Power a node off under load, and on again", s.powerCycle},
		{"Cut the cable of a node under load, and heal it", s.cable},
		{"Move the pods and check every byte again", s.move},
		{"Delete everything again", s.clean},
	}
}

func (s *Story) powerCycle(ctx context.Context) error {
	return s.without(ctx, (*lab.Node).PowerOff, (*lab.Node).PowerOn)
}

func (s *Story) cable(ctx context.Context) error {
	return s.without(ctx, (*lab.Node).Cut, (*lab.Node).Heal)
}

// without takes a node away that has no writer, sees that both writers go on, and brings it back.
func (s *Story) without(ctx context.Context, take, bring func(*lab.Node, context.Context) error) error {
	node, err := s.nodeWithoutWriter(ctx)
	if err != nil {
		return err
	}
	s.Say("   node %s is taken away", node.Name)
	if err := take(node, ctx); err != nil {
		return err
	}
	taken := time.Now()
	for _, name := range claims {
		pod := "write-" + name
		longest, err := s.overcome(ctx, pod, taken)
		if err != nil {
			return err
		}
		s.Say("   pod %s goes on; its longest write so far took %s", pod, longest)
		if s.MaxStall > 0 && longest > s.MaxStall {
			return fmt.Errorf("a write of pod %s took %s, more than %s", pod, longest, s.MaxStall)
		}
	}
	if err := bring(node, ctx); err != nil {
		return err
	}
	return s.backInSync(ctx)
}

// nodeWithoutWriter is the first node that no writer runs on.
func (s *Story) nodeWithoutWriter(ctx context.Context) (*lab.Node, error) {
	busy := map[string]bool{}
	for _, name := range claims {
		var p corev1.Pod
		if err := s.Get(ctx, &p, "pod", "write-"+name); err != nil {
			return nil, err
		}
		busy[p.Spec.NodeName] = true
	}
	for _, n := range s.Nodes() {
		if !busy[n.Name] {
			return n, nil
		}
	}
	return nil, errors.New("find a node without a writer: there is none")
}
