package storm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// begin makes Volumes and starts the writers.
func (s *Storm) begin(ctx context.Context) error {
	if err := s.apply(ctx, "base.yaml", nil); err != nil {
		return err
	}
	if err := s.until(ctx, "Devices in service", s.devicesReady); err != nil {
		return err
	}
	for i, claim := range []string{"one", "two"} {
		w := &writer{claim: claim, notOn: s.Nodes()[i].Name}
		s.writers = append(s.writers, w)
		if err := s.apply(ctx, "claim.yaml", claimValues{claim, volumeSize, "shale"}); err != nil {
			return err
		}
		if err := s.start(ctx, w); err != nil {
			return err
		}
	}
	if err := s.settle(ctx, excuse{}); err != nil {
		return err
	}
	s.Say("%d writers write, on %s and %s", len(s.writers), s.writers[0].node, s.writers[1].node)
	return nil
}

// settle waits until all is as before: every program running, everything InSync, everybody writing.
func (s *Storm) settle(ctx context.Context, excused excuse) error {
	from := map[*writer]int64{}
	for _, w := range s.writers {
		from[w] = s.last(w).Acknowledged
	}
	return s.until(ctx, "all to be as before", func(ctx context.Context) error {
		for _, w := range s.writers {
			restarts := w.restarts
			if err := s.look(ctx, w, from[w], excused); err != nil {
				if w.restarts != restarts {
					from[w] = 0
				}
				return err
			}
		}
		return errors.Join(s.present(), s.devicesReady(ctx), s.inSync(ctx))
	})
}

func (s *Storm) devicesReady(ctx context.Context) error {
	var pool v1alpha1.Pool
	if err := s.Get(ctx, &pool, "pools.shale.dev", "lab"); err != nil {
		return err
	}
	if int(pool.Status.ReadyDevices) != len(s.Nodes()) {
		return fmt.Errorf("pool has %d ready devices", pool.Status.ReadyDevices)
	}
	return nil
}

func (s *Storm) inSync(ctx context.Context) error {
	var list v1alpha1.ShardList
	if err := s.Get(ctx, &list, "shards.shale.dev"); err != nil {
		return err
	}
	for i := range list.Items {
		if n := len(list.Items[i].Spec.Membership.InSync); n != len(s.Nodes()) {
			return fmt.Errorf("shard %s has %d in sync", list.Items[i].Name, n)
		}
	}
	return nil
}

// fill exhausts all Devices with a Volume and then deletes it.
func (s *Storm) fill(ctx context.Context, d time.Duration) error {
	if err := s.apply(ctx, "claim.yaml", claimValues{"filler", "1Gi", "few-shards"}); err != nil {
		return err
	}
	err := s.apply(ctx, "pod.yaml", podValues{
		Name: "filler", Claim: "filler", NotOn: nobody(""), Image: s.Image, LogDir: s.LogDir,
		Args: words("fill", "--path", "/dev/data", "--size", fmt.Sprint(1<<30)),
	})
	if err != nil {
		return err
	}
	text, err := s.finished(ctx, "filler")
	if err != nil {
		return err
	}
	s.Say("    filler: %s", strings.TrimSpace(text))
	if err := wasFull(text); err != nil {
		return err
	}
	if err := sleep(ctx, d); err != nil {
		return err
	}
	_, err = s.Kubectl(ctx, nil, "delete", "pod/filler", "pvc/filler", "--timeout=120s")
	return err
}

// finished waits until a pod has succeeded and returns the last line it printed.
func (s *Storm) finished(ctx context.Context, pod string) (string, error) {
	var p corev1.Pod
	err := s.until(ctx, "the end of pod "+pod, func(ctx context.Context) error {
		if err := s.Get(ctx, &p, "pod", pod); err != nil {
			return err
		}
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("it is %s", p.Status.Phase)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	out, err := s.Kubectl(ctx, nil, "logs", "--tail=2", pod)
	if err != nil {
		return "", err
	}
	if p.Status.Phase != corev1.PodSucceeded {
		return "", fmt.Errorf("pod %s has failed: %s", pod, out)
	}
	return string(out), nil
}

// end compares all, on another node than where it was written, deletes it and sees the space come back.
func (s *Storm) end(ctx context.Context) error {
	s.Say("Every byte is compared on another node")
	for _, w := range s.writers {
		if err := s.finish(ctx, w); err != nil {
			return err
		}
		err := s.apply(ctx, "pod.yaml", podValues{
			Name: "check-" + w.claim, Claim: w.claim, NotOn: w.node, Image: s.Image, LogDir: s.LogDir,
			Args: words("check", "--path", "/dev/data", "--log", "/log/"+w.claim+".log"),
		})
		if err != nil {
			return err
		}
	}
	for _, w := range s.writers {
		text, err := s.finished(ctx, "check-"+w.claim)
		if err != nil {
			return err
		}
		s.Say("    %s: %s", w.claim, strings.TrimSpace(text))
		if _, err := s.Kubectl(ctx, nil, "delete", "pod/check-"+w.claim, "pvc/"+w.claim, "--timeout=120s"); err != nil {
			return err
		}
	}
	return s.until(ctx, "the space to come back", s.empty)
}

// empty says what still takes space.
func (s *Storm) empty(ctx context.Context) error {
	var shards v1alpha1.ShardList
	var devices v1alpha1.DeviceList
	if err := errors.Join(s.Get(ctx, &shards, "shards.shale.dev"), s.Get(ctx, &devices, "devices.shale.dev")); err != nil {
		return err
	}
	if len(shards.Items) > 0 {
		return fmt.Errorf("there are %d shards", len(shards.Items))
	}
	for i := range devices.Items {
		d := &devices.Items[i].Status
		if d.UsedBytes+d.ReservedBytes > 0 {
			return fmt.Errorf("device %s has %d bytes used and %d reserved", devices.Items[i].Name, d.UsedBytes, d.ReservedBytes)
		}
	}
	return nil
}

// Faults is how many there were.
func (s *Storm) Faults() int { return len(s.faults) }
