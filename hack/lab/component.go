package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/shale-storage/shale/hack/lab/space"
)

const (
	// poll is how often readiness is asked; toldLines is how much of a log an error shows.
	poll      = 50 * time.Millisecond
	toldLines = 12
	// answerWithin bounds one question whether something is ready.
	answerWithin = 5 * time.Second
)

// component is a program that runs on in the background.
type component struct {
	name, log string
	// exited is closed when it ended, with the reason in err.
	exited chan struct{}
	err    error
}

// where says in which machine a component runs and where its log and pid file go.
type where struct {
	space space.Space
	// dir has log and pid file.
	dir string
	// env are additions.
	env []string
	// restart is for machines without a kubelet: a program that ends is started again until it is ended by end.
	restart bool
}

// start starts a program; it goes on when this command ends.
func (w where) start(ctx context.Context, name string, argv ...string) (*component, error) {
	if w.restart {
		// Two of them would start again for ever, and only one could be ended.
		leader, err := w.running(name)
		if err != nil {
			return nil, err
		}
		if leader != 0 {
			return nil, fmt.Errorf("start %s: it runs, as process group %d", name, leader)
		}
		argv = kept(name, argv)
	}
	c := &component{name: name, log: filepath.Join(w.dir, name+".log"), exited: make(chan struct{})}
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer func() { _ = out.Close() }()
	line := w.space.Entering(argv...)
	cmd := exec.CommandContext(withoutCancel(ctx), line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), w.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		c.err = cmd.Wait()
		close(c.exited)
	}()
	pid := []byte(strconv.Itoa(cmd.Process.Pid) + "\n")
	if err := os.WriteFile(w.pidFile(name), pid, 0o644); err != nil {
		return nil, fmt.Errorf("write pid file of %s: %w", name, err)
	}
	return c, nil
}

// await asks until ready says nil. It fails when the component ends, or after startWithin; one that is started again
// does not end.
func (c *component) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		asked, stop := context.WithTimeout(ctx, answerWithin)
		last := ready(asked)
		stop()
		if last == nil {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("start %s: it ended: %w%s", c.name, c.err, c.told())
		case <-ctx.Done():
			return fmt.Errorf("start %s: not ready (%w): %w%s", c.name, ctx.Err(), last, c.told())
		case <-time.After(poll):
		}
	}
}

// told is the end of the log, for an error message.
func (c *component) told() string { return "\n" + lastLines(c.log, toldLines) }

// lastLines is the end of a log with its path.
func lastLines(path string, n int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("(log %s: %v)", path, err)
	}
	lines := strings.Split(string(bytes.TrimSpace(content)), "\n")
	lines = lines[max(0, len(lines)-n):]
	const width = 400
	for i, line := range lines {
		lines[i] = "  | " + line[:min(len(line), width)]
	}
	return fmt.Sprintf("the last lines of %s:\n%s", path, strings.Join(lines, "\n"))
}
