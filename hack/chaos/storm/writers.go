package storm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// writerSize is what each writer writes within; volumeSize is larger, so that a whole Shard is never the limit.
	writerSize = 80 << 20
	volumeSize = "128Mi"
)

// writer is a Volume and the pod that writes to it.
type writer struct {
	claim string
	// node it runs on; notOn is where it shall not go next.
	node, notOn string
	// restarts counts the pods before this one, which was started then.
	restarts int
	started  time.Time
	// before are the writes of earlier pods.
	before int64
}

func (w *writer) pod() string { return "write-" + w.claim }

// line of a report; see test/verifier.
type line struct {
	Time         time.Time `json:"time"`
	Ready        bool      `json:"ready"`
	Acknowledged int64     `json:"acknowledged"`
	RecentMillis int64     `json:"recentMillis"`
	Error        string    `json:"error"`
	Ended        bool      `json:"ended"`
}

func (s *Storm) path(name string) string { return filepath.Join(s.LogDir, name) }

// report of this pod so far; empty when it has not printed yet.
func (s *Storm) report(w *writer) []line {
	content, err := os.ReadFile(s.path(w.reportName()))
	if err != nil {
		return nil
	}
	var all []line
	for text := range bytes.Lines(content) {
		var l line
		if json.Unmarshal(text, &l) == nil { // the last may be half written
			all = append(all, l)
		}
	}
	return all
}

func (w *writer) reportName() string { return fmt.Sprintf("%s.%d.report", w.claim, w.restarts) }

func (s *Storm) last(w *writer) line {
	all := s.report(w)
	if len(all) == 0 {
		return line{}
	}
	return all[len(all)-1]
}

// longest operation of any writer since then.
func (s *Storm) longest(since time.Time) time.Duration {
	var most int64
	for _, w := range s.writers {
		for _, l := range s.report(w) {
			if l.Time.After(since) {
				most = max(most, l.RecentMillis)
			}
		}
	}
	return time.Duration(most) * time.Millisecond
}

func (s *Storm) acknowledged() int64 {
	var sum int64
	for _, w := range s.writers {
		sum += w.before + s.last(w).Acknowledged
	}
	return sum
}

// start applies a writer's pod.
func (s *Storm) start(ctx context.Context, w *writer) error {
	args := []string{
		"write", "--path", "/dev/data", "--log", "/log/" + w.claim + ".log", "--report", "/log/" + w.reportName(),
		"--size", fmt.Sprint(writerSize), "--depth", "6", "--pace", "4ms", "--prefill",
		fmt.Sprintf("--same-crc=%t", s.SameCRC),
	}
	w.started = time.Now()
	return s.apply(ctx, "pod.yaml", podValues{
		Name: w.pod(), Claim: w.claim, NotOn: nobody(w.notOn), Image: s.Image, LogDir: s.LogDir,
		Args: words(args...),
	})
}

// restart a writer, which has ended or was told to, from its log.
func (s *Storm) restart(ctx context.Context, w *writer) error {
	w.before += s.last(w).Acknowledged
	w.restarts++
	w.node = ""
	return s.start(ctx, w)
}

// finish ends a writer while nothing is wrong.
func (s *Storm) finish(ctx context.Context, w *writer) error {
	if err := s.remove(ctx, w); err != nil {
		return err
	}
	if err := s.last(w).endedInOrder(); err != nil {
		return fmt.Errorf("writer %s: %w", w.claim, err)
	}
	return nil
}

// remove a writer's pod and wait until it is gone. Its report is whole then.
func (s *Storm) remove(ctx context.Context, w *writer) error {
	_, err := s.Kubectl(ctx, nil, "delete", "pod", w.pod(), "--ignore-not-found", "--timeout=90s")
	return err
}

// move a writer to another node.
func (s *Storm) move(ctx context.Context, w *writer) error {
	w.notOn = w.node
	if err := s.finish(ctx, w); err != nil {
		return err
	}
	return s.restart(ctx, w)
}

// look after a writer: what is wrong is an error, what may be is mended. It is nil when the writer writes.
func (s *Storm) look(ctx context.Context, w *writer, from int64, excused excuse) error {
	var p corev1.Pod
	out, err := s.Kubectl(ctx, nil, "get", "pod", w.pod(), "--ignore-not-found", "-o", "json")
	if err != nil {
		return err
	}
	gone := len(bytes.TrimSpace(out)) == 0
	if !gone {
		if err := json.Unmarshal(out, &p); err != nil {
			return fmt.Errorf("read pod %s: %w", w.pod(), err)
		}
	}
	taken := gone || p.DeletionTimestamp != nil
	if taken || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return s.mend(ctx, w, taken, excused)
	}
	l := s.last(w)
	if l.Error != "" { // its end is a matter of moments
		return s.mend(ctx, w, false, excused)
	}
	w.node = p.Spec.NodeName
	if !l.Ready || l.Acknowledged <= from {
		return fmt.Errorf("writer %s on %s does not write: %s, ready %t, %d writes",
			w.claim, w.node, p.Status.Phase, l.Ready, l.Acknowledged)
	}
	return nil
}

// mend a writer that has ended: it is started again if it may have. What it said last is judged when it is gone, so
// that all that it found counts.
func (s *Storm) mend(ctx context.Context, w *writer, taken bool, excused excuse) error {
	how := ending{node: w.node, started: w.started, taken: taken, last: s.last(w)}
	if err := excused.judge(how); err != nil {
		return fmt.Errorf("%w: writer %s on %s: %w", errGiveUp, w.claim, w.node, err)
	}
	if err := s.remove(ctx, w); err != nil {
		return err
	}
	how.last = s.last(w)
	if err := excused.judge(how); err != nil {
		return fmt.Errorf("%w: writer %s on %s: %w", errGiveUp, w.claim, w.node, err)
	}
	s.Say("    writer %s is started again; it said %q", w.claim, how.last.Error)
	return errors.Join(errors.New("it is being started again"), s.restart(ctx, w))
}
