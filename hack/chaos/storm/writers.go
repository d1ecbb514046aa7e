package storm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	// restarts counts the pods before this one.
	restarts int
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
	return s.apply(ctx, "pod.yaml", podValues{
		Name: w.pod(), Claim: w.claim, NotOn: nobody(w.notOn), Image: s.Image, LogDir: s.LogDir,
		Args: words(args...),
	})
}

// restart a writer from its log.
func (s *Storm) restart(ctx context.Context, w *writer) error {
	if _, err := s.Kubectl(ctx, nil, "delete", "pod", w.pod(), "--ignore-not-found", "--timeout=90s"); err != nil {
		return err
	}
	w.before += s.last(w).Acknowledged
	w.restarts++
	w.node = ""
	return s.start(ctx, w)
}

// move a writer to another node.
func (s *Storm) move(ctx context.Context, w *writer) error {
	w.notOn = w.node
	return s.restart(ctx, w)
}

// look after a writer: what is wrong is an error, what may be is mended. It is nil when the writer writes.
func (s *Storm) look(ctx context.Context, w *writer, from int64, excused bool) error {
	l := s.last(w)
	if strings.Contains(l.Error, "LOST") {
		return fmt.Errorf("%w: writer %s: %s", errGiveUp, w.claim, l.Error)
	}
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
	if gone || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		if !excused {
			return fmt.Errorf("%w: writer %s has ended: %s (%s)", errGiveUp, w.claim, l.Error, p.Status.Phase)
		}
		s.Say("    writer %s is started again; it said %q", w.claim, l.Error)
		return errors.Join(errors.New("it is being started again"), s.restart(ctx, w))
	}
	w.node = p.Spec.NodeName
	if !l.Ready || l.Acknowledged <= from {
		return fmt.Errorf("writer %s on %s does not write: %s, ready %t, %d writes",
			w.claim, w.node, p.Status.Phase, l.Ready, l.Acknowledged)
	}
	return nil
}
