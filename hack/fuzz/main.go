// Command fuzz gives every fuzz target of the project a short run, one after the other.
//
//	go run ./hack/fuzz -time 10s            all targets
//	go run ./hack/fuzz -time 10m Superblock those whose name contains a word
//
// Targets are found in the sources, so a new one takes part by being written. A failing input is kept by the go command
// below the package's testdata/fuzz: commit it, it is a test from then on.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

var declaration = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]+)\(`)

// target is one fuzz function.
type target struct{ dir, name string }

func main() {
	length := flag.Duration("time", 5*time.Second, "how long each target runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *length, flag.Arg(0)); err != nil {
		slog.Error("Fuzzing failed", "error", err)
		os.Exit(1) //nolint:gocritic // the process ends; the signal handler needs no release
	}
}

func run(ctx context.Context, length time.Duration, word string) error {
	targets, err := find(".", word)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target's name contains %q", word)
	}
	for i, t := range targets {
		fmt.Printf("fuzz %d/%d %s %s\n", i+1, len(targets), t.dir, t.name)
		if err := fuzz(ctx, t, length); err != nil {
			return err
		}
	}
	return nil
}

// fuzz runs one target and shows its output only if it fails.
func fuzz(ctx context.Context, t target, length time.Duration) error {
	command := exec.CommandContext(ctx, "go", "test", "./"+t.dir,
		"-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", length.String())
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("fuzz %s in %s: %w\n%s", t.name, t.dir, err, output)
	}
	return nil
}

func find(root, word string) ([]target, error) {
	var targets []target
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declaration.FindAllSubmatch(text, -1) {
			if name := string(m[1]); strings.Contains(name, word) {
				targets = append(targets, target{dir: filepath.ToSlash(filepath.Dir(path)), name: name})
			}
		}
		return nil
	})
	return targets, err
}
