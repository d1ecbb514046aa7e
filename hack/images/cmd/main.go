// Command images builds Shale's container images into archives and prints their paths.
//
//	go run ./hack/images/cmd [NAME…]    all, or operator storenode csi pause provisioner attacher app
//
// Progress goes to stderr.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/shale-storage/shale/hack/images"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: images [NAME…]\nnames:", strings.Join(images.Names(), " "))
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	built, err := images.Build(ctx, flag.Args()...)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
	for _, image := range built {
		fmt.Println(image.Archive, image.Ref)
	}
}
