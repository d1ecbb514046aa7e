package tidy

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

// forbiddenWords are those the glossary replaces; see docs/glossary.md.
var forbiddenWords = map[string]string{
	"Master": "Primary", "Slave": "Backup", "Leader": "Primary", "Follower": "Backup", "Quorum": "InSync",
	"LUN": "Volume", "Segment": "Shard", "Mirror": "Replica", "Resync": "Rebuild", "Drive": "Device", "Tray": "Device",
}

// TestExportedNamesAreTheGlossarys looks where the glossary rules: the data plane and the API. Kubernetes has words of
// its own (leader election) in operator and csi.
func TestExportedNamesAreTheGlossarys(t *testing.T) {
	for _, s := range handwritten(t) {
		if !s.in([]string{"storenode", "api"}) {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			name, ok := declared(n)
			if !ok || !name.IsExported() {
				return true
			}
			for word, instead := range forbiddenWords {
				if hasWord(name.Name, word) {
					t.Errorf("%s: %s: the glossary says %s", s.position(name), name.Name, instead)
				}
			}
			return true
		})
	}
}

func declared(n ast.Node) (*ast.Ident, bool) {
	switch n := n.(type) {
	case *ast.FuncDecl:
		return n.Name, true
	case *ast.TypeSpec:
		return n.Name, true
	case *ast.ValueSpec:
		return n.Names[0], true
	case *ast.Field:
		if len(n.Names) > 0 {
			return n.Names[0], true
		}
	}
	return nil, false
}

// hasWord reports whether word is one of name's camel-case words, so that Driver is no Drive.
func hasWord(name, word string) bool {
	for i := 0; i+len(word) <= len(name); i++ {
		if !strings.HasPrefix(name[i:], word) {
			continue
		}
		rest := name[i+len(word):]
		if rest == "" || rest[0] < 'a' || rest[0] > 'z' || rest == "s" {
			return true
		}
	}
	return false
}

func TestNothingIsLeftForLater(t *testing.T) {
	owned := regexp.MustCompile(`\b(TODO|FIXME|XXX)\([a-z0-9-]+, #\d+\)`)
	unowned := regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	scaffolding := regexp.MustCompile(`(?i)edit this file|is an example field|your logic here|not implemented yet`)
	for _, s := range handwritten(t) {
		if s.in([]string{"hack/tidy"}) {
			continue
		}
		for i, line := range s.lines {
			if unowned.MatchString(line) && !owned.MatchString(line) {
				t.Errorf("%s:%d: write it as TODO(owner, #issue), or do it", s.path, i+1)
			}
			if scaffolding.MatchString(line) {
				t.Errorf("%s:%d: scaffolding: %s", s.path, i+1, strings.TrimSpace(line))
			}
		}
	}
}
