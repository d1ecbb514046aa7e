package story

import (
	"context"
	"fmt"
	"time"

	eventsv1 "k8s.io/api/events/v1"
)

// maxHandOver is how long a write may take while storenodes are restarted in order, on machines that do other work too.
// On quiet ones it is less than two seconds.
const maxHandOver = 10 * time.Second

// rollout restarts all storenodes one by one, as an upgrade does: each hands its Primaries over before it ends, so the
// operator has nobody to promote. The writers must be new: their longest write so far counts.
func (s *Story) rollout(ctx context.Context) error {
	const set = "daemonset/shale-storenode"
	before, err := s.promotions(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Kubectl(ctx, nil, "-n", Namespace, "rollout", "restart", set); err != nil {
		return err
	}
	if _, err := s.Kubectl(ctx, nil, "-n", Namespace, "rollout", "status", set, "--timeout=240s"); err != nil {
		return err
	}
	if err := s.backInSync(ctx); err != nil {
		return err
	}
	restarted := time.Now()
	for _, name := range claims {
		pod := "write-" + name
		longest, err := s.overcome(ctx, pod, restarted)
		if err != nil {
			return err
		}
		s.Say("   pod %s wrote through all restarts; its longest write took %s", pod, longest)
		s.Facts.HandOver = max(s.Facts.HandOver, longest)
		if longest > maxHandOver {
			return fmt.Errorf("pod %s stalled for %s, more than %s", pod, longest, maxHandOver)
		}
	}
	after, err := s.promotions(ctx)
	if err != nil {
		return err
	}
	if after > before {
		return fmt.Errorf("storenodes restarted in order, but the operator had to promote %d times", after-before)
	}
	return nil
}

// promotions is how many Primaries the operator has chosen in the place of lost ones, by its events.
func (s *Story) promotions(ctx context.Context) (int32, error) {
	var all eventsv1.EventList
	if err := s.Get(ctx, &all, "events.events.k8s.io", "-A"); err != nil {
		return 0, err
	}
	var count int32
	for i := range all.Items {
		switch e := &all.Items[i]; {
		case e.Action != "Promote":
		case e.Series != nil:
			count += e.Series.Count
		default:
			count++
		}
	}
	return count, nil
}
