// Command build makes pinned tools and says where they are.
//
//	go run ./hack/toolbox/build NAME…        build; print each tool's path
//	go run ./hack/toolbox/build -dir NAME…   build; print the directory of the first (KUBEBUILDER_ASSETS of envtest)
//
// Progress goes to stderr.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/shale-storage/shale/hack/toolbox"
)

func main() {
	dir := flag.Bool("dir", false, "print the directory of the first tool, not each path")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: build [-dir] NAME…\nnames: %s\n", strings.Join(toolbox.Names(), " "))
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, flag.Args()); err != nil {
		slog.Error("Building tools failed", "error", err)
		os.Exit(1) //nolint:gocritic // the process ends; the signal handler needs no release
	}
}

func run(ctx context.Context, dir bool, names []string) error {
	box, err := toolbox.Build(ctx, names...)
	if err != nil {
		return err
	}
	if dir {
		fmt.Println(filepath.Dir(box.All()[0]))
		return nil
	}
	for _, path := range box.All() {
		fmt.Println(path)
	}
	return nil
}
