// Command generate writes what is derived from the types in api/.
//
//	go run ./hack/generate          write: deep copies, config/crd and charts/shale/crds
//	go run ./hack/generate -check   fail if they are not what would be written, and write nothing
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/shale-storage/shale/hack/toolbox"
)

const (
	crds      = "config/crd/bases"
	chartCRDs = "charts/shale/crds"
	// api has the types, copiesFile is what controller-gen calls their deep copies.
	api        = "api/v1alpha1"
	copiesFile = "zz_generated.deepcopy.go"
)

func main() {
	check := flag.Bool("check", false, "write nothing, and fail if the files are not up to date")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, *check)
	stop()
	if err != nil {
		slog.Error("Generating failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	want, err := generate(ctx)
	if err != nil {
		return err
	}
	changed, err := differences(want)
	if err != nil {
		return err
	}
	if check {
		return judge(changed)
	}
	return write(want, changed)
}

func judge(changed []string) error {
	if len(changed) > 0 {
		return fmt.Errorf("not up to date, run `make generate` and commit: %s", strings.Join(changed, " "))
	}
	return nil
}

// generate makes all files in a directory of its own and returns them by their path in the checkout.
func generate(ctx context.Context) (map[string][]byte, error) {
	box, err := toolbox.Build(ctx, "controller-gen")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "shale-generate-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	madeCRDs, madeCopies := filepath.Join(dir, "crds"), filepath.Join(dir, "copies")
	command := exec.CommandContext(ctx, box.Path("controller-gen"), "paths=./"+api+"/...",
		"object", "output:object:dir="+madeCopies,
		"crd", "output:crd:artifacts:config="+madeCRDs,
	)
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run controller-gen: %w\n%s", err, output)
	}
	text, err := os.ReadFile(filepath.Join(madeCopies, copiesFile))
	if err != nil {
		return nil, fmt.Errorf("read what controller-gen wrote: %w", err)
	}
	want := map[string][]byte{filepath.Join(api, copiesFile): text}
	definitions, err := read(madeCRDs)
	if err != nil {
		return nil, err
	}
	for path, text := range definitions {
		name := filepath.Base(path)
		want[filepath.Join(crds, name)] = text
		want[filepath.Join(chartCRDs, name)] = text // helm wants them in the chart itself
	}
	return want, nil
}

// read reads every file below a directory; there are none if it does not exist.
func read(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read generated files: %w", err)
	}
	return files, nil
}

// differences are the paths whose file is another than wanted, or is there and not wanted.
func differences(want map[string][]byte) ([]string, error) {
	have := map[string][]byte{}
	for _, root := range []string{crds, chartCRDs, filepath.Join(api, copiesFile)} {
		files, err := read(root)
		if err != nil {
			return nil, err
		}
		maps.Copy(have, files)
	}
	var paths []string
	for path, text := range want {
		if there, ok := have[path]; !ok || !bytes.Equal(text, there) {
			paths = append(paths, path)
		}
	}
	for path := range have {
		if _, wanted := want[path]; !wanted {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// write makes the changed paths what is wanted.
func write(want map[string][]byte, changed []string) error {
	for _, path := range changed {
		text, wanted := want[path]
		if !wanted {
			if err := os.Remove(path); err != nil {
				return err
			}
			fmt.Println("removed", path)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
		fmt.Println("wrote", path)
	}
	return nil
}
