// Command shale-csi is Shale's CSI driver: controller, node plugin and initiator in one program.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/shale-storage/shale/csi/setup"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := setup.New(setup.Options{Version: version}).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "shale-csi:", err)
		os.Exit(1) //nolint:gocritic // there is nothing left to stop
	}
}
