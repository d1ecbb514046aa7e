// Command need installs the Debian packages it is given, those that the machine lacks.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/shale-storage/shale/hack/debian"
)

func main() {
	if err := debian.Need(context.Background(), os.Args[1:]...); err != nil {
		slog.Error("Installing packages failed", "error", err)
		os.Exit(1)
	}
}
