package toolbox

import (
	"go/version"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// find returns what the group of a pattern matches in a file of the checkout.
func find(t *testing.T, file, pattern string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)` + pattern).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has nothing like %s", file, pattern)
	}
	return string(found[1])
}

func TestKubernetesReportsThePinnedVersion(t *testing.T) {
	pinned := find(t, "hack/tools/go.mod", `^\s*k8s\.io/kubernetes (v\S+)`)
	if pinned != kubernetesVersion {
		t.Errorf("kubernetesVersion is %s, pinned is %s", kubernetesVersion, pinned)
	}
	parts := strings.Split(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	for name, part := range map[string]string{"gitMajor": parts[0], "gitMinor": parts[1]} {
		if !strings.Contains(linkFlags(), "."+name+"="+part+" ") {
			t.Errorf("the link flags do not give %s as %s: %s", name, part, linkFlags())
		}
	}
}

// TestWhoCanBuildShaleCanBuildItsTools: the tools are built with the Go that is there.
func TestWhoCanBuildShaleCanBuildItsTools(t *testing.T) {
	ours := find(t, "go.mod", `^go (\S+)$`)
	for _, module := range []string{"", "cni", "lint"} {
		file := filepath.Join("hack", "tools", module, "go.mod")
		if theirs := find(t, file, `^go (\S+)$`); version.Compare("go"+theirs, "go"+ours) > 0 {
			t.Errorf("%s wants Go %s, go.mod only %s", file, theirs, ours)
		}
	}
	for file, pattern := range map[string]string{
		"README.md": `Go (\S+) or newer`, "Dockerfile": `^ARG GO=golang:([0-9.]+)-`,
	} {
		if said := find(t, file, pattern); said != ours {
			t.Errorf("%s says Go %s, go.mod %s", file, said, ours)
		}
	}
}
