// Command generate writes what is derived from the types in api/.
//
//	go run ./hack/generate          write: deep copies, config/crd and charts/shale/crds
//	go run ./hack/generate -check   write, and fail if that changed anything: somebody forgot to
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shale-storage/shale/hack/toolbox"
)

const (
	crds      = "config/crd/bases"
	chartCRDs = "charts/shale/crds"
	copies    = "api/v1alpha1/zz_generated.deepcopy.go"
)

func main() {
	check := flag.Bool("check", false, "fail if the files were not up to date")
	flag.Parse()
	if err := run(context.Background(), *check); err != nil {
		slog.Error("Generating failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	before, err := snapshot()
	if err != nil {
		return err
	}
	if err := generate(ctx); err != nil {
		return err
	}
	after, err := snapshot()
	if err != nil {
		return err
	}
	changed := differences(before, after)
	if check && len(changed) > 0 {
		return fmt.Errorf("not up to date, run `make generate` and commit: %s", strings.Join(changed, " "))
	}
	for _, path := range changed {
		fmt.Println("wrote", path)
	}
	return nil
}

func generate(ctx context.Context) error {
	box, err := toolbox.Build(ctx, "controller-gen")
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, box.Path("controller-gen"),
		"object", "paths=./api/...",
		"crd", "output:crd:artifacts:config="+crds,
	)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("run controller-gen: %w\n%s", err, output)
	}
	return copyCRDs()
}

// copyCRDs gives helm the same definitions, which it wants in the chart itself.
func copyCRDs() error {
	if err := os.RemoveAll(chartCRDs); err != nil {
		return err
	}
	return os.CopyFS(chartCRDs, os.DirFS(crds))
}

// snapshot reads every file that generate may write.
func snapshot() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, root := range []string{crds, chartCRDs, copies} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files[path], err = os.ReadFile(path)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read generated files: %w", err)
		}
	}
	return files, nil
}

func differences(before, after map[string][]byte) []string {
	var paths []string
	for path, text := range after {
		if !bytes.Equal(text, before[path]) {
			paths = append(paths, path)
		}
	}
	for path := range before {
		if _, still := after[path]; !still {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}
