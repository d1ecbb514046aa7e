// Command need installs the Debian packages it is given, those that the machine lacks.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/shale-storage/shale/hack/debian"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := debian.Need(ctx, os.Args[1:]...)
	stop()
	if err != nil {
		slog.Error("Installing packages failed", "error", err)
		os.Exit(1)
	}
}
