package main

import (
	"fmt"
	"os"
	"syscall"
)

// quietWatcher is the setting of Go's runtime that storenodes and initiators have: see the decision on the runtime's
// watcher.
const quietWatcher = "schedtrace=2147483647"

// likeTheCluster starts the program anew with the setting that those have, unless GODEBUG says something already.
func likeTheCluster() error {
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
