package setup

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

const (
	// restartLimit is how often in a row a child may die before that is left to the kubelet, which waits ever longer.
	restartLimit = 5
	// restartCalm is how long a child must have lived for its death not to count as in a row with those before.
	restartCalm = 10 * time.Second
	// restartPatience bounds the orderly end of the child.
	restartPatience = 45 * time.Second
	restartFlag     = "restart"
)

// restarting runs this program as a child, and again as soon as it has died. The kubelet would need seconds, and
// minutes from the second death on; meanwhile I/O waits.
func restarting(ctx context.Context, program string, args []string, log *slog.Logger) error {
	// The child dies with the thread that began it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for deaths := 0; ; {
		began := time.Now()
		child := exec.CommandContext(ctx, program, args...) //nolint:gosec // it is this very program
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
		child.WaitDelay = restartPatience
		err := child.Run()
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > restartCalm {
			deaths = 0
		}
		if deaths++; deaths >= restartLimit {
			return fmt.Errorf("run child: it died %d times in a row: %w", deaths, err)
		}
		log.Error("The child died: starting it anew", "cause", err)
	}
}

// withoutRestart is the command line of the child.
func withoutRestart(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		return a == "--"+restartFlag || a == "--"+restartFlag+"=true"
	})
}
