package chart

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the rendered manifests anew: config/install/shale.yaml and testdata")

const (
	definitions = "../../config/crd"
	header      = "# What charts/shale renders with %s. `go test ./test/chart -rewrite` writes it anew.\n"
)

// renderings are the golden files: what the chart renders with each set of values.
var renderings = []struct {
	values, file string
	args         []string
}{
	{values: "its default values", file: "../../config/install/shale.yaml"},
	{
		values: "testdata/lab.values.yaml", file: "testdata/lab.yaml",
		args: []string{"--values", "testdata/lab.values.yaml"},
	},
	{
		values: "testdata/datacentre.values.yaml", file: "testdata/datacentre.yaml",
		args: []string{"--values", "testdata/datacentre.values.yaml"},
	},
}

// TestTheManifestsAreWhatTheChartRenders is the golden test of the chart: a change of a template shows here.
func TestTheManifestsAreWhatTheChartRenders(t *testing.T) {
	for _, r := range renderings {
		t.Run(filepath.Base(r.file), func(t *testing.T) {
			args := append([]string{"template", "shale", directory, "--namespace", "shale-system"}, r.args...)
			rendered, err := helm(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			rendered = fmt.Sprintf(header, r.values) + rendered
			if *rewrite {
				if err := os.WriteFile(r.file, []byte(rendered), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			have, err := os.ReadFile(r.file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(have), rendered); diff != "" {
				t.Errorf("%s is not what the chart renders; look at it, then run with -rewrite:\n%s", r.file, diff)
			}
		})
	}
}

func TestKustomizeAndChartHaveEachDefinition(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(definitions, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	names := func(dir string) []string {
		paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no definitions in %s: %v", dir, err)
		}
		for i := range paths {
			paths[i] = filepath.Base(paths[i])
		}
		return paths
	}
	bases := names(filepath.Join(definitions, "bases"))
	if charts := names(filepath.Join(directory, "crds")); !slices.Equal(bases, charts) {
		t.Errorf("config/crd has %v, the chart %v: run `make generate`", bases, charts)
	}
	for _, name := range bases {
		if !strings.Contains(string(text), "- bases/"+name+"\n") {
			t.Errorf("config/crd/kustomization.yaml does not list %s", name)
		}
	}
}
