package tidy

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksInDocumentsLead(t *testing.T) {
	for _, document := range files(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(read(t, document), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(document), target)); err != nil {
				t.Errorf("%s: link to %s leads nowhere", document, m[1])
			}
		}
	}
}

// named is a path of the project in backquotes, with at least one slash: `storenode/store`, `hack/lab/up.go`.
var named = regexp.MustCompile("`((?:api|operator|csi|storenode|config|charts|hack|test|docs)/[A-Za-z0-9_./-]+)`")

func TestPathsInDocumentsExist(t *testing.T) {
	for _, document := range files(t, ".md") {
		for _, m := range named.FindAllStringSubmatch(read(t, document), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: names %s, which does not exist", document, m[1])
			}
		}
	}
}

func TestEachDecisionIsInTheIndex(t *testing.T) {
	const index = "docs/adr/README.md"
	text := read(t, index)
	for _, document := range files(t, ".md") {
		if path.Dir(document) != "docs/adr" || document == index {
			continue
		}
		if !strings.Contains(text, "("+path.Base(document)+")") {
			t.Errorf("%s: not linked from %s", document, index)
		}
		body := read(t, document)
		for _, want := range []string{
			"status:", "date:", "## Context", "## Decision", "## Alternatives", "## Consequences",
			"## How we will know it was wrong",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: has no %q", document, want)
			}
		}
	}
}

// TestEachReasonIsExplained: whoever meets a reason in a condition finds out what to do.
func TestEachReasonIsExplained(t *testing.T) {
	const document = "docs/operate/conditions.md"
	text := read(t, document)
	found := 0
	for _, s := range handwritten(t) {
		if !s.in([]string{"api"}) || s.isTest() {
			continue
		}
		for name, value := range stringConstants(s.ast) {
			if !strings.HasPrefix(name, "Reason") {
				continue
			}
			found++
			if !strings.Contains(text, "`"+value+"`") {
				t.Errorf("%s: reason %s is not explained in %s", s.path, value, document)
			}
		}
	}
	if found == 0 {
		t.Error("found no reasons in api/: the search is broken")
	}
}

func stringConstants(f *ast.File) map[string]string {
	constants := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range v.Names {
			if i >= len(v.Values) {
				continue
			}
			if l, ok := v.Values[i].(*ast.BasicLit); ok && l.Kind == token.STRING {
				constants[name.Name], _ = strconv.Unquote(l.Value)
			}
		}
		return true
	})
	return constants
}

// TestMakefileExplainsItsTargets keeps `make help` complete.
func TestMakefileExplainsItsTargets(t *testing.T) {
	target := regexp.MustCompile(`^[a-z][a-z0-9-]*:`)
	for i, line := range strings.Split(read(t, "Makefile"), "\n") {
		if target.MatchString(line) && !strings.Contains(line, "## ") {
			t.Errorf("Makefile:%d: target without a ## sentence for `make help`", i+1)
		}
	}
}
