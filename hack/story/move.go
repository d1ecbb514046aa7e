package story

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func (s *Story) move(ctx context.Context) error {
	var pods []podValues
	from := map[string]string{}
	for _, name := range claims {
		var p corev1.Pod
		if err := s.Get(ctx, &p, "pod", "write-"+name); err != nil {
			return err
		}
		from[name] = p.Spec.NodeName
		if _, err := s.Kubectl(ctx, nil, "delete", "pod", p.Name, "--timeout=60s"); err != nil {
			return err
		}
		if err := s.endedInOrder(name); err != nil {
			return err
		}
		pods = append(pods, podValues{
			Name: "check-" + name, Claim: name, Raw: name == "raw", NotOn: p.Spec.NodeName,
			Args: args("check", "--path", pathOf(name), "--log", "/log/"+name+".log"),
		})
	}
	if err := s.applyPods(ctx, pods); err != nil {
		return err
	}
	s.Facts.Checked = map[string]int{}
	for _, name := range claims {
		if err := s.checked(ctx, name, from[name]); err != nil {
			return err
		}
	}
	return nil
}

// checked waits for the verdict of a checking pod.
func (s *Story) checked(ctx context.Context, claim, from string) error {
	pod := "check-" + claim
	var p corev1.Pod
	err := s.until(ctx, 120*time.Second, "the verdict of pod "+pod, func(ctx context.Context) error {
		if err := s.Get(ctx, &p, "pod", pod); err != nil {
			return err
		}
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("it is %s", p.Status.Phase)
		}
		return nil
	})
	if err != nil {
		return err
	}
	t, err := s.tally(ctx, pod)
	if err != nil {
		return err
	}
	if p.Status.Phase != corev1.PodSucceeded || t.Lost != 0 || t.Blocks == 0 {
		return fmt.Errorf("check of claim %s: %d of %d blocks are wrong", claim, t.Lost, t.Blocks)
	}
	if p.Spec.NodeName == from {
		return fmt.Errorf("check of claim %s ran on %s, where it was written", claim, from)
	}
	s.Facts.Checked[claim] = t.Blocks
	s.Say("   %s: written on %s, %d blocks compared on %s, none lost", claim, from, t.Blocks, p.Spec.NodeName)
	return nil
}

func (s *Story) clean(ctx context.Context) error {
	if err := s.until(ctx, 90*time.Second, "each Device to say what is used", s.used); err != nil {
		return err
	}
	began := time.Now()
	for _, what := range [][]string{{"pod", "check-files", "check-raw"}, {"pvc", "files", "raw"}} {
		if _, err := s.Kubectl(ctx, nil, append([]string{"delete", "--timeout=60s"}, what...)...); err != nil {
			return err
		}
	}
	if err := s.until(ctx, 90*time.Second, "the space to come back", s.empty); err != nil {
		return err
	}
	s.Facts.SpaceBack = time.Since(began)
	return s.show(ctx, "pools,devices")
}

// empty says what is still there.
func (s *Story) empty(ctx context.Context) error {
	var volumes v1alpha1.VolumeList
	if err := s.Get(ctx, &volumes, "volumes.shale.dev"); err != nil {
		return err
	}
	shards, err := s.shards(ctx)
	if err != nil {
		return err
	}
	if len(volumes.Items)+len(shards) > 0 {
		return fmt.Errorf("there are %d volumes and %d shards", len(volumes.Items), len(shards))
	}
	return s.eachDevice(ctx, func(used, reserved int64) bool { return used == 0 && reserved == 0 })
}

// used is nil if there is something on each Device: what was never taken cannot come back.
func (s *Story) used(ctx context.Context) error {
	return s.eachDevice(ctx, func(used, reserved int64) bool { return used > 0 && reserved >= used })
}

// eachDevice is nil if there are as many Devices as nodes, and what each says to hold and to have promised is right.
func (s *Story) eachDevice(ctx context.Context, right func(used, reserved int64) bool) error {
	var devices v1alpha1.DeviceList
	if err := s.Get(ctx, &devices, "devices.shale.dev"); err != nil {
		return err
	}
	found := 0
	for i := range devices.Items {
		d := &devices.Items[i]
		if d.Spec.UUID == "" {
			continue // it was refused
		}
		if found++; !right(d.Status.UsedBytes, d.Status.ReservedBytes) {
			return fmt.Errorf("device %s has %d bytes used and %d reserved", d.Name, d.Status.UsedBytes, d.Status.ReservedBytes)
		}
	}
	if found != nodes {
		return fmt.Errorf("there are %d Devices, not %d", found, nodes)
	}
	return nil
}
