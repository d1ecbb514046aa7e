package storm

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/shale-storage/shale/hack/lab"
)

//go:embed manifests
var manifests embed.FS

// claimValues and podValues fill the manifests.
type claimValues struct{ Name, Size, Class string }

type podValues struct{ Name, Claim, NotOn, Image, LogDir, Args string }

// nobody is a node that no lab has, where none is excluded.
func nobody(node string) string {
	if node == "" {
		return "none"
	}
	return node
}

// words is a list in YAML's flow style.
func words(all ...string) string {
	quoted, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(quoted)
}

func (s *Storm) apply(ctx context.Context, name string, values any) error {
	return s.ApplyFrom(ctx, manifests, name, values)
}

// errGiveUp says that waiting on is useless.
var errGiveUp = errors.New("it cannot become so any more")

// until asks condition again and again, for settleWithin at most; the error says what it said last.
func (s *Storm) until(ctx context.Context, what string, condition func(context.Context) error) error {
	const poll = 700 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, errGiveUp) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if sleep(ctx, poll) != nil {
			return fmt.Errorf("wait for %s: not within %s: %w", what, settleWithin, last)
		}
	}
}

// Save keeps objects, events, all logs and the SSDs as they are now in a directory. Storenodes stand still from then
// on.
func (s *Storm) Save(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory for what happened: %w", err)
	}
	text := s.Diagnose(ctx)
	shards, err := s.Kubectl(ctx, nil, "get", "shards,devices,volumes,storenodes", "-o", "yaml")
	if err != nil {
		text += err.Error()
	}
	failed := []error{
		os.WriteFile(filepath.Join(dir, "diagnosis.txt"), []byte(text), 0o644),
		os.WriteFile(filepath.Join(dir, "objects.yaml"), shards, 0o644),
	}
	copies := map[string]string{s.LogDir: "acknowledged", filepath.Join(s.Dir, "log"): "machines"}
	for _, n := range s.Nodes() {
		copies[filepath.Join(n.Root(), "var/log/pods")] = "pods-" + n.Name
		copies[filepath.Join(n.Root(), lab.SSD)] = n.Name + ".img"
		pids, err := n.Processes("storenode")
		failed = append(failed, err)
		for _, pid := range pids {
			failed = append(failed, n.Pause(pid))
		}
	}
	for from, to := range copies {
		out, err := exec.CommandContext(ctx, "cp", "-a", from, filepath.Join(dir, to)).CombinedOutput()
		if err != nil {
			failed = append(failed, fmt.Errorf("keep %s: %w: %s", from, err, out))
		}
	}
	return errors.Join(failed...)
}
