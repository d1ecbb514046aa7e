package chart

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write config/install/shale.yaml anew")

const (
	manifests   = "../../config/install/shale.yaml"
	definitions = "../../config/crd"
	header      = "# What charts/shale renders with its default values. `go test ./test/chart -rewrite` writes it anew.\n"
)

// TestTheManifestsAreWhatTheChartRenders is the golden test of the chart too: a change of a template shows here.
func TestTheManifestsAreWhatTheChartRenders(t *testing.T) {
	rendered, err := helm(t, "template", "shale", directory, "--namespace", "shale-system")
	if err != nil {
		t.Fatal(err)
	}
	rendered = header + rendered
	if *rewrite {
		if err := os.WriteFile(manifests, []byte(rendered), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(manifests)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), rendered); diff != "" {
		t.Errorf("config/install/shale.yaml is not what the chart renders; look at it, then run with -rewrite:\n%s", diff)
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
