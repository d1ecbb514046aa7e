package toolbox

import (
	"bufio"
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/shale-storage/shale/hack/child"
)

// progressEvery is how often a long build says how far it is.
const progressEvery = 10 * time.Second

// keptLines bounds what is kept of a compiler's output for the error message.
const keptLines = 40

// job is one build.
type job struct {
	tool tool
	name string
	// module is the directory with the go.mod, out the file to be made.
	module, out string
	// nth of how many tools, for the progress lines.
	nth, of int
}

// isBuilt says whether the binary is there and was built with the tool's tags, and with C or without.
func (j job) isBuilt() bool {
	info, err := buildinfo.ReadFile(j.out)
	if err != nil {
		return false
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	return settings["-tags"] == j.tool.tags && settings["CGO_ENABLED"] == j.tool.cgoEnabled()
}

// build runs the compiler at low priority, so that the machine stays usable, and prints progress.
func (j job) build(ctx context.Context) error {
	started := time.Now()
	slog.Info("Building tool", "tool", j.name, "nth", fmt.Sprintf("%d/%d", j.nth, j.of))
	part := j.out + ".part"
	cmd := child.Command(ctx, "nice", "-n", "5", "go", "build", "-v", "-trimpath",
		"-ldflags", linkFlags(), "-tags", j.tool.tags, "-o", part, j.tool.path)
	cmd.Dir = j.module
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false", "CGO_ENABLED="+j.tool.cgoEnabled())
	out := &compilerOutput{}
	cmd.Stderr, cmd.Stdout = out.writer()
	stop := j.report(out, started)
	err := cmd.Run()
	out.close()
	stop()
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", j.name, err, out.kept())
	}
	if err := os.Rename(part, j.out); err != nil {
		return fmt.Errorf("keep %s: %w", j.name, err)
	}
	slog.Info("Built tool", "tool", j.name, "seconds", int(time.Since(started).Seconds()))
	return nil
}

// report prints a line every while until the returned function is called.
func (j job) report(out *compilerOutput, started time.Time) (stop func()) {
	done := make(chan struct{})
	var finished sync.WaitGroup
	finished.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				slog.Info("Still building", "tool", j.name, "packages", out.count(),
					"seconds", int(time.Since(started).Seconds()))
			}
		}
	})
	return func() { close(done); finished.Wait() }
}

// compilerOutput counts the packages that `go build -v` names and keeps the last lines for an error message.
type compilerOutput struct {
	pipe     *io.PipeWriter
	finished sync.WaitGroup

	mu       sync.Mutex
	packages int
	lines    []string
}

// writer is where the compiler writes to, twice: stderr and stdout.
func (c *compilerOutput) writer() (io.Writer, io.Writer) {
	r, w := io.Pipe()
	c.pipe = w
	c.finished.Go(func() {
		scanner := bufio.NewScanner(r)
		for scanner.Scan() {
			c.add(scanner.Text())
		}
		// A line too long for the scanner ends it; the compiler must still be able to write.
		_, _ = io.Copy(io.Discard, r)
	})
	return w, w
}

func (c *compilerOutput) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packages++
	c.lines = append(c.lines, line)
	if len(c.lines) > keptLines {
		c.lines = c.lines[1:]
	}
}

func (c *compilerOutput) close() {
	_ = c.pipe.Close() // never fails
	c.finished.Wait()
}

func (c *compilerOutput) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packages
}

func (c *compilerOutput) kept() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}
