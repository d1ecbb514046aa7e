package toolbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/shale-storage/shale/hack/debian"
	"github.com/shale-storage/shale/hack/turn"
)

// Box is where built tools are found.
type Box struct {
	paths map[string]string
	// order is the one asked for, groups expanded.
	order []string
}

// Path of a tool that was asked for; it panics for another, which is a mistake of the caller.
func (b Box) Path(name string) string {
	path, ok := b.paths[name]
	if !ok {
		panic("toolbox: " + name + " was not asked for")
	}
	return path
}

// All are the paths of everything that was asked for, in that order.
func (b Box) All() []string {
	paths := make([]string, 0, len(b.order))
	for _, name := range b.order {
		paths = append(paths, b.paths[name])
	}
	return paths
}

// Build makes sure that the named tools and groups are in the cache, building what is not.
func Build(ctx context.Context, names ...string) (Box, error) {
	all, err := expand(names)
	if err != nil {
		return Box{}, err
	}
	root, err := Root(ctx)
	if err != nil {
		return Box{}, err
	}
	box := Box{paths: map[string]string{}, order: all}
	keys := map[string]string{}
	for i, name := range all {
		t := tools[name]
		module := filepath.Join(root, "hack", "tools", t.module)
		if keys[t.module] == "" {
			if keys[t.module], err = binDir(module, t.module); err != nil {
				return Box{}, err
			}
		}
		box.paths[name] = filepath.Join(keys[t.module], name)
		job := job{tool: t, name: name, module: module, out: box.paths[name], nth: i + 1, of: len(all)}
		if err := job.ensure(ctx); err != nil {
			return Box{}, err
		}
	}
	return box, nil
}

// Root is the top of the checkout.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module root: %w", err)
	}
	mod := string(out[:max(0, len(out)-1)])
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("find module root: not inside the checkout")
	}
	return filepath.Dir(mod), nil
}

// Cache is the directory for everything that is dear to make and needs no keeping.
func Cache() (string, error) {
	if dir := os.Getenv("SHALE_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory (set SHALE_CACHE): %w", err)
	}
	return filepath.Join(dir, "shale"), nil
}

// binDir is the directory for the binaries of a module as it is now.
func binDir(dir, module string) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, runtime.Version(), runtime.GOARCH, linkFlags())
	for _, file := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return "", fmt.Errorf("hash tools module: %w", err)
		}
		hash.Write(content)
	}
	name := module
	if name == "." {
		name = "kubernetes"
	}
	return filepath.Join(cache, "bin", name+"-"+hex.EncodeToString(hash.Sum(nil))[:16]), nil
}

// ensure builds the tool unless the cache has it.
func (j job) ensure(ctx context.Context) error {
	if j.isBuilt() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(j.out), 0o755); err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	mine, err := turn.Take(ctx, j.out+".lock")
	if err != nil {
		return err
	}
	defer mine.Give()
	if j.isBuilt() {
		return nil
	}
	if err := debian.Need(ctx, j.tool.debian...); err != nil {
		return err
	}
	return j.build(ctx)
}
