package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profile begins a CPU profile of this process, if asked for; end writes it.
func profile(o *options) (end func(), err error) {
	if o.profile == "" {
		return func() {}, nil
	}
	name := "client.pprof"
	if o.storenode != "" {
		name = filepath.Base(o.storenode) + ".pprof"
	}
	f, err := os.Create(filepath.Join(o.profile, name))
	if err != nil {
		return nil, fmt.Errorf("make profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("begin profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile is worth no error
	}, nil
}
