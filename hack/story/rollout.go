package story

import (
	"context"
	"fmt"
	"time"
)

// maxHandOver is what the application may feel of the end of one storenode in order.
const maxHandOver = 2 * time.Second

// rollout restarts all storenodes one by one, as an upgrade does, and sees that no write took longer than promised.
// The writers must be new: their longest write so far counts.
func (s *Story) rollout(ctx context.Context) error {
	const set = "daemonset/shale-storenode"
	if _, err := s.Kubectl(ctx, nil, "-n", Namespace, "rollout", "restart", set); err != nil {
		return err
	}
	if _, err := s.Kubectl(ctx, nil, "-n", Namespace, "rollout", "status", set, "--timeout=240s"); err != nil {
		return err
	}
	if err := s.backInSync(ctx); err != nil {
		return err
	}
	for _, name := range claims {
		pod := "write-" + name
		t, err := s.tally(ctx, pod)
		if err != nil {
			return err
		}
		if err := s.untilAcknowledged(ctx, pod, t.Acknowledged+afterKill); err != nil {
			return err
		}
		longest := time.Duration(t.LongestWriteMillis) * time.Millisecond
		s.Say("   pod %s wrote through all restarts; its longest write took %s", pod, longest)
		if longest > maxHandOver {
			return fmt.Errorf("pod %s stalled for %s, more than %s", pod, longest, maxHandOver)
		}
	}
	return nil
}
