package story

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func (s *Story) kill(ctx context.Context) error {
	victim, err := s.loadedShard(ctx)
	if err != nil {
		return err
	}
	node := primaryNode(victim)
	s.Facts.KilledNode, s.Facts.Shard, s.Facts.EpochBefore = node, victim.Name, victim.Spec.Membership.Epoch
	killed := time.Now()
	pid, err := s.Kill(node)
	if err != nil {
		return err
	}
	s.Say("   shard %s has its Primary on %s, epoch %d: SIGKILL to pid %d",
		victim.Name, node, victim.Spec.Membership.Epoch, pid)
	s.Facts.LongestWrite = map[string]time.Duration{}
	for _, name := range claims {
		pod := "write-" + name
		longest, err := s.overcome(ctx, pod, killed)
		if err != nil {
			return err
		}
		s.Facts.LongestWrite[name] = longest
		s.Say("   pod %s went on; its longest write took %s", pod, longest)
		if s.MaxStall > 0 && longest > s.MaxStall {
			return fmt.Errorf("pod %s stalled for %s, more than %s", pod, longest, s.MaxStall)
		}
	}
	return s.newEpoch(ctx, victim.Name)
}

// loadedShard is the first Shard of the raw Volume: its pod writes to it all the time.
func (s *Story) loadedShard(ctx context.Context) (*v1alpha1.Shard, error) {
	volume, err := s.volumeOf(ctx, "raw")
	if err != nil {
		return nil, err
	}
	shards, err := s.shards(ctx)
	if err != nil {
		return nil, err
	}
	for i := range shards {
		if shards[i].Spec.VolumeName == volume && shards[i].Spec.Index == 0 {
			return &shards[i], nil
		}
	}
	return nil, fmt.Errorf("find first shard of volume %s: there is none", volume)
}

// volumeOf is the Volume object behind a claim: the handle of its PersistentVolume begins with it.
func (s *Story) volumeOf(ctx context.Context, claim string) (string, error) {
	out, err := s.Kubectl(ctx, nil, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")
	if err != nil {
		return "", err
	}
	var list v1alpha1.VolumeList
	if err := s.Get(ctx, &list, "volumes.shale.dev"); err != nil {
		return "", err
	}
	for i := range list.Items {
		if strings.Contains(list.Items[i].Name, strings.TrimSpace(string(out))) {
			return list.Items[i].Name, nil
		}
	}
	return "", fmt.Errorf("find volume of claim %s: none is named like %s", claim, out)
}

func (s *Story) shards(ctx context.Context) ([]v1alpha1.Shard, error) {
	var list v1alpha1.ShardList
	err := s.Get(ctx, &list, "shards.shale.dev")
	return list.Items, err
}

// primaryNode is the node of a Shard's Primary, empty if it has none.
func primaryNode(shard *v1alpha1.Shard) string {
	i := slices.IndexFunc(shard.Spec.Replicas, func(r v1alpha1.ShardReplica) bool {
		return r.ID == shard.Spec.Membership.Primary
	})
	if i < 0 {
		return ""
	}
	return shard.Spec.Replicas[i].NodeName
}

func (s *Story) newEpoch(ctx context.Context, name string) error {
	return s.until(ctx, 30*time.Second, "a new Epoch of shard "+name, func(ctx context.Context) error {
		var shard v1alpha1.Shard
		if err := s.Get(ctx, &shard, "shards.shale.dev", name); err != nil {
			return err
		}
		m := shard.Spec.Membership
		if m.Epoch <= s.Facts.EpochBefore {
			return fmt.Errorf("it is still %d", m.Epoch)
		}
		s.Facts.EpochAfter = m.Epoch
		s.Say("   shard %s is in epoch %d, its Primary on %s, %d of 3 in sync",
			name, m.Epoch, primaryNode(&shard), len(m.InSync))
		return nil
	})
}

func (s *Story) backInSync(ctx context.Context) error {
	began := time.Now()
	err := s.until(ctx, 120*time.Second, "3 Replicas in sync everywhere", func(ctx context.Context) error {
		shards, err := s.shards(ctx)
		if err != nil {
			return err
		}
		for i := range shards {
			if n := len(shards[i].Spec.Membership.InSync); n != nodes {
				return fmt.Errorf("shard %s has %d", shards[i].Name, n)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Facts.BackInSync = time.Since(began)
	return s.show(ctx, "volumes,shards")
}
