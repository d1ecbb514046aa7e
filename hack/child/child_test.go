package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// exitAsked is the exit status of a program that was asked to end.
const exitAsked = 7

func TestMain(m *testing.M) {
	if os.Getenv("SHALE_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt)
	_, _ = os.Stdout.WriteString("ready\n")
	<-asked
	os.Exit(exitAsked)
}

func TestAProgramIsAskedToEnd(t *testing.T) {
	for name, command := range map[string]func(context.Context, string, ...string) *exec.Cmd{
		"plain": Command, "shielded": Shielded,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			cmd := command(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), "SHALE_TEST_CHILD=1")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var line string
			if _, err := fmt.Fscan(out, &line); err != nil {
				t.Fatal(err)
			}
			group, err := unix.Getpgid(cmd.Process.Pid)
			if own := group == cmd.Process.Pid; err != nil || own != (name == "shielded") {
				t.Errorf("it is in a process group of its own: %v, %v", own, err)
			}
			interrupt()
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitAsked {
				t.Errorf("it ended with %v, want exit status %d", err, exitAsked)
			}
		})
	}
}
