// Package child starts programs that are asked to end when their context does.
//
// Killed, they would leave things half done: dpkg its database, mmdebstrap its mounts, buildah its storage, Go its
// directory for work.
package child

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// patience is how long a program may take to end; then it is killed.
const patience = 20 * time.Second

// Command is a program that gets SIGINT when the context ends.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	return cmd
}

// Shielded is a program that alone gets SIGINT when the context ends: its own children do not see a Ctrl-C at the
// terminal, so it can let them finish. It has as long as that takes.
func Shielded(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := Command(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 0
	return cmd
}
