// Command demo shows Shale on a real Kubernetes of three nodes on this machine: install, claim, write, lose a
// storenode under load, go on, move, check every byte, delete. It exits 0 only if each step was checked.
//
//	go run ./hack/demo [-keep]    tell the story; -keep leaves the cluster for kubectl
//	go run ./hack/demo -down      end a cluster that was kept
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/shale-storage/shale/hack/lab"
	"github.com/shale-storage/shale/hack/story"
)

func main() {
	keep := flag.Bool("keep", false, "leave the cluster for kubectl")
	down := flag.Bool("down", false, "end the cluster that an earlier demo left")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, *keep, *down)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo failed:", err)
		os.Exit(1)
	}
}

// maxStall is what Shale promises the application across the loss of a storenode.
const maxStall = 5 * time.Second

// said prefixes each line with the time since the start.
type said struct{ began time.Time }

func (s said) line(format string, args ...any) {
	fmt.Printf("[%4.0fs] %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func (s said) table(text string) {
	for line := range strings.Lines(text) {
		fmt.Print("        ", line)
	}
}

func run(ctx context.Context, keep, down bool) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	if down {
		return lab.Down(ctx, lab.DefaultDir, log)
	}
	s := said{time.Now()}
	place, err := story.Start(ctx, story.Options{Dir: lab.DefaultDir, Say: s.line, Log: log})
	if err != nil {
		return err
	}
	defer func() {
		if keep {
			s.line("The cluster is kept: go run ./hack/lab/cmd kubectl get pods -A; end it with make demo-down")
			return
		}
		if failed := place.Down(context.WithoutCancel(ctx)); failed != nil && err == nil {
			err = failed
		}
	}()
	told := story.Story{Place: place, Say: s.line, Show: s.table, MaxStall: maxStall}
	if err := told.Run(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, place.Diagnose(context.WithoutCancel(ctx)))
	}
	s.line("Done, and every step was checked:")
	s.table(told.Facts.Summary())
	return nil
}
