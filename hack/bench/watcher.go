package main

import (
	"fmt"
	"os"
	"syscall"
)

// quietWatcher is the setting of Go's runtime that Shale's images have: see the decision on the runtime's watcher.
const quietWatcher = "schedtrace=2147483647"

// likeTheImages starts the program anew with the setting of Shale's images, unless GODEBUG says something already.
func likeTheImages() error {
	if _, ok := os.LookupEnv("GODEBUG"); ok {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	if err := syscall.Exec(self, os.Args, append(os.Environ(), "GODEBUG="+quietWatcher)); err != nil {
		return fmt.Errorf("start anew: %w", err)
	}
	return nil
}
