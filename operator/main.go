// Command operator places Shards, promotes Backups and replaces lost Replicas, for as long as it leads.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/shale-storage/shale/operator/setup"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := setup.New(version).ExecuteContext(ctx)
	if errors.Is(err, setup.ErrEnded) {
		fmt.Fprintln(os.Stderr, "operator: starts over:", err)
		err = startOver(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "operator:", err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}

// pause before the operator starts over: what it could not reach needs some time.
const pause = 2 * time.Second

// startOver puts a new process in place of this one, so that nothing of the lead that was lost goes on. It does not
// end: after some ends in a row the kubelet would wait for minutes, in which nobody promotes a Backup.
func startOver(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(pause):
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the operator's program: %w", err)
	}
	if err := syscall.Exec(self, os.Args, os.Environ()); err != nil { //nolint:gosec // it is this program
		return fmt.Errorf("start %s over: %w", self, err)
	}
	return nil
}
