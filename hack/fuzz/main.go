// Command fuzz gives every fuzz target of the project a short run, one after the other.
//
//	go run ./hack/fuzz -inputs 100000              all targets
//	go run ./hack/fuzz -inputs 90000000 Superblock those whose name contains a word
//
// Inputs are counted, not seconds: at the end of a time, the go command may take its own deadline for a failure.
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
	inputs := flag.Int64("inputs", 100_000, "how many inputs each target is given")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *inputs, flag.Arg(0)); err != nil {
		slog.Error("Fuzzing failed", "error", err)
		os.Exit(1) //nolint:gocritic // the process ends; the signal handler needs no release
	}
}

func run(ctx context.Context, inputs int64, word string) error {
	targets, err := find(".", word)
	if err != nil {
		return err
	}
	if inputs <= 0 {
		return fmt.Errorf("-inputs is %d: at least 1", inputs)
	}
	if len(targets) == 0 {
		return fmt.Errorf("no fuzz target's name contains %q", word)
	}
	for i, t := range targets {
		fmt.Printf("fuzz %d/%d %s %s", i+1, len(targets), t.dir, t.name)
		begun := time.Now()
		if err := fuzz(ctx, t, inputs); err != nil {
			return err
		}
		fmt.Printf(" %.0f s\n", time.Since(begun).Seconds())
	}
	return nil
}

// fuzz runs one target and shows its output only if it fails.
func fuzz(ctx context.Context, t target, inputs int64) error {
	command := exec.CommandContext(ctx, "go", "test", "./"+t.dir,
		"-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", fmt.Sprintf("%dx", inputs))
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
