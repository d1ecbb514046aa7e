package story

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// claims of the story, each with a pod that writes and one that checks.
var claims = []string{"files", "raw"}

// podValues is one pod of manifests/pods.yaml.
type podValues struct {
	Name, Claim, NotOn, Args string
	Raw                      bool
}

// tally is the part of verifier's output that is wanted.
type tally struct {
	Time               time.Time `json:"time"`
	Acknowledged       int64     `json:"acknowledged"`
	LongestWriteMillis int64     `json:"longestWriteMillis"`
	RecentMillis       int64     `json:"recentMillis"`
	Blocks             int       `json:"blocks"`
	Lost               int       `json:"lost"`
	Error              string    `json:"error"`
	Ended              bool      `json:"ended"`
}

const (
	// afterFault is how many writes a pod must get acknowledged when a fault has been felt.
	afterFault = 500
	// felt is how long after a fault each operation that it stalls shows in a writer's lines, which come each second: it
	// is under way for longer than fluent then.
	felt, fluent = time.Second, 500 * time.Millisecond
)

// overcome waits until a writer goes on after what happened at since: nothing that was under way then is any more, and
// more writes were acknowledged. It gives the longest write of the pod's life.
func (s *Story) overcome(ctx context.Context, pod string, since time.Time) (longest time.Duration, err error) {
	first := int64(-1)
	err = s.until(ctx, 90*time.Second, "pod "+pod+" to go on", func(ctx context.Context) error {
		t, err := s.tally(ctx, pod)
		if err != nil {
			return err
		}
		if t.Time.Before(since.Add(felt)) {
			return fmt.Errorf("its last line is of %s, before the fault was felt", t.Time.Format(time.TimeOnly))
		}
		if first < 0 {
			first = t.Acknowledged
		}
		recent := time.Duration(t.RecentMillis) * time.Millisecond
		longest = time.Duration(t.LongestWriteMillis) * time.Millisecond
		if recent > fluent || t.Acknowledged < first+afterFault {
			return fmt.Errorf("an operation takes %s, and %d writes were acknowledged since", recent, t.Acknowledged-first)
		}
		return nil
	})
	return longest, err
}

func (s *Story) claim(ctx context.Context) error {
	began := time.Now()
	if err := s.apply(ctx, "claims.yaml", nil); err != nil {
		return err
	}
	for _, name := range claims {
		err := s.until(ctx, 60*time.Second, "claim "+name+" to be bound", func(ctx context.Context) error {
			var c corev1.PersistentVolumeClaim
			if err := s.Get(ctx, &c, "pvc", name); err != nil {
				return err
			}
			if c.Status.Phase != corev1.ClaimBound {
				return fmt.Errorf("it is %s", c.Status.Phase)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.Facts.Bound = time.Since(began)
	s.Say("   bound after %s", s.Facts.Bound.Round(10*time.Millisecond))
	for _, name := range claims {
		if err := s.divided(ctx, name); err != nil {
			return err
		}
	}
	return s.show(ctx, "volumes,shards")
}

// parts is how many Shards each claim has, by its size in claims.yaml and the shardSize in pool.yaml.
var parts = map[string]int{"files": 4, "raw": 3}

// divided is nil if the Volume of a claim has its Shards, each with a Replica on every node.
func (s *Story) divided(ctx context.Context, claim string) error {
	volume, err := s.volumeOf(ctx, claim)
	if err != nil {
		return err
	}
	shards, err := s.shards(ctx)
	if err != nil {
		return err
	}
	found := 0
	for i := range shards {
		if shards[i].Spec.VolumeName != volume {
			continue
		}
		found++
		on := map[string]bool{}
		for _, r := range shards[i].Spec.Replicas {
			on[r.NodeName] = true
		}
		if len(on) != nodes {
			return fmt.Errorf("shard %s has Replicas on %d nodes, not %d", shards[i].Name, len(on), nodes)
		}
	}
	if found != parts[claim] {
		return fmt.Errorf("volume %s has %d shards, not %d", volume, found, parts[claim])
	}
	return nil
}

func pathOf(claim string) string {
	if claim == "raw" {
		return "/dev/data"
	}
	return "/data/blocks"
}

func (s *Story) startWriters(ctx context.Context) error {
	began := time.Now()
	if err := os.MkdirAll(s.LogDir, 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	var pods []podValues
	for _, name := range claims {
		for _, old := range []string{name + ".log", reportOf(name)} {
			if err := os.RemoveAll(filepath.Join(s.LogDir, old)); err != nil {
				return fmt.Errorf("remove old log: %w", err)
			}
		}
		pods = append(pods, podValues{
			Name: "write-" + name, Claim: name, Raw: name == "raw",
			Args: args("write", "--path", pathOf(name), "--log", "/log/"+name+".log", "--report", "/log/"+reportOf(name),
				"--size", fmt.Sprint(160<<20), "--depth", "8", "--pace", "2ms"),
		})
	}
	if err := s.applyPods(ctx, pods); err != nil {
		return err
	}
	for _, name := range claims {
		if err := s.untilAcknowledged(ctx, "write-"+name, 200); err != nil {
			return err
		}
	}
	s.Facts.Writing = time.Since(began)
	s.Say("   both pods write, %s after they were applied", s.Facts.Writing.Round(10*time.Millisecond))
	return nil
}

func reportOf(claim string) string { return claim + ".report" }

// endedInOrder is nil if a writer whose pod is gone found nothing wrong to its end: its log does not tell of that.
func (s *Story) endedInOrder(claim string) error {
	content, err := os.ReadFile(filepath.Join(s.LogDir, reportOf(claim)))
	if err != nil {
		return fmt.Errorf("read report of the writer of claim %s: %w", claim, err)
	}
	last := ""
	for text := range strings.Lines(string(content)) {
		last = text
	}
	var t tally
	if err := json.Unmarshal([]byte(last), &t); err != nil {
		return fmt.Errorf("read report of the writer of claim %s: %w", claim, err)
	}
	if t.Error != "" || !t.Ended {
		return fmt.Errorf("the writer of claim %s did not end in order, its last line is %s", claim, last)
	}
	return nil
}

// untilAcknowledged waits until a writer has so many acknowledged writes.
func (s *Story) untilAcknowledged(ctx context.Context, pod string, count int64) error {
	what := fmt.Sprintf("pod %s to have %d writes acknowledged", pod, count)
	return s.until(ctx, 90*time.Second, what, func(ctx context.Context) error {
		t, err := s.tally(ctx, pod)
		if err != nil {
			return err
		}
		if t.Acknowledged < count {
			return fmt.Errorf("it has %d", t.Acknowledged)
		}
		return nil
	})
}

// tally is the last line that a pod printed. A pod that failed will print no other.
func (s *Story) tally(ctx context.Context, pod string) (tally, error) {
	var p corev1.Pod
	if err := s.Get(ctx, &p, "pod", pod); err != nil {
		return tally{}, err
	}
	out, err := s.Kubectl(ctx, nil, "logs", "--tail=5", pod)
	if p.Status.Phase == corev1.PodFailed {
		return tally{}, fmt.Errorf("pod %s has failed and says %q: %w", pod, out, errGiveUp)
	}
	if err != nil {
		return tally{}, err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var t tally
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &t); err != nil {
		return tally{}, fmt.Errorf("read output of pod %s: %w", pod, err)
	}
	return t, nil
}

func (s *Story) applyPods(ctx context.Context, pods []podValues) error {
	return s.apply(ctx, "pods.yaml", struct {
		Pods          []podValues
		Image, LogDir string
	}{pods, s.Image, s.LogDir})
}

// args is a list in YAML's flow style.
func args(words ...string) string {
	quoted, err := json.Marshal(words)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(quoted)
}
