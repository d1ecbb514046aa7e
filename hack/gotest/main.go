// Command gotest is go test, and ends with what was skipped and why: without -v nobody is told.
//
//	go run ./hack/gotest [flags of go test] PACKAGES
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/shale-storage/shale/hack/child"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Stdout, os.Args[1:])
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed) && failed.Exited():
		os.Exit(failed.ExitCode()) //nolint:gocritic // the process ends; the signal handler needs no release
	case err != nil:
		slog.Error("Running tests failed", "error", err)
		os.Exit(1)
	}
}

// run has go test tell what happens, and tells people.
func run(ctx context.Context, out io.Writer, args []string) error {
	cmd := child.Command(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	r := newReport(out)
	lines := bufio.NewReader(events)
	for err == nil {
		var line []byte
		if line, err = lines.ReadBytes('\n'); len(line) > 0 {
			r.line(line)
		}
	}
	ended := cmd.Wait()
	r.end()
	if !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("read what go test says: %w", err), ended)
	}
	return ended
}
