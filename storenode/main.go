// Command storenode serves Replicas of Shale's Shards from the SSDs of one node.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/shale-storage/shale/storenode/setup"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := setup.New(setup.Options{Version: version}).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "storenode:", err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}
