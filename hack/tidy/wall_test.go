package tidy

import (
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/shale-storage/shale/"

// purePackages decide and encode; they have no I/O, clock, goroutine, lock or randomness, so that any interleaving can
// be written down as a test and replayed from a seed.
var purePackages = []string{
	"storenode/membership", "storenode/layout", "storenode/journal", "storenode/extent", "storenode/wire",
	"storenode/ident", "storenode/replication", "storenode/scrub", "storenode/budget", "storenode/checksum",
	"csi/params", "csi/volumeid", "operator/placement",
	"operator/failover",
}

// walls say who may not import whom. Components meet in api/ alone.
var walls = []struct {
	from, except, to []string
	why              string
}{
	{
		from: []string{"operator"}, to: []string{module + "csi", module + "storenode"},
		why: "the operator meets the other components only in api/",
	},
	{
		from: []string{"csi"}, to: []string{module + "operator"},
		why: "the CSI driver meets the operator only in api/",
	},
	{
		from: []string{"csi"},
		to: []string{
			module + "storenode/store", module + "storenode/engine", module + "storenode/shard",
			module + "storenode/replication", module + "storenode/layout", module + "storenode/agent",
		},
		why: "the initiator is a client of storenodes, not a part of one",
	},
	{
		from: []string{"storenode"}, to: []string{module + "operator", module + "csi"},
		why: "the data plane knows neither the operator nor the CSI driver",
	},
	{
		from: []string{"storenode"}, except: []string{"storenode/agent", "storenode/setup"},
		to:  []string{"k8s.io", "sigs.k8s.io", module + "api"},
		why: "the data plane runs without Kubernetes; only agent and setup know it",
	},
	{
		from: []string{"api"}, to: []string{module + "operator", module + "csi", module + "storenode"},
		why: "api/ is what components agree on, so it knows none of them",
	},
	{
		from: []string{"api", "operator", "csi", "storenode"}, to: []string{module + "hack", module + "test"},
		why: "products do not depend on chores",
	},
}

func TestComponentsMeetOnlyWhereTheyMay(t *testing.T) {
	for _, s := range handwritten(t) {
		if s.isTest() {
			continue
		}
		for _, w := range walls {
			if !s.in(w.from) || s.in(w.except) {
				continue
			}
			for _, imported := range s.ast.Imports {
				path, _ := strconv.Unquote(imported.Path.Value)
				for _, to := range w.to {
					if path == to || strings.HasPrefix(path, to+"/") {
						t.Errorf("%s: imports %s: %s", s.position(imported), path, w.why)
					}
				}
			}
		}
	}
}

func TestPurePackagesStayPure(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range handwritten(t) {
		if s.isTest() || !s.in(purePackages) {
			continue
		}
		seen[s.dir()] = true
		for _, imported := range s.ast.Imports {
			path, _ := strconv.Unquote(imported.Path.Value)
			switch path {
			case "os", "net", "sync", "sync/atomic", "math/rand", "math/rand/v2", "crypto/rand", "context", "log/slog":
				t.Errorf("%s: a pure package imports %s", s.position(imported), path)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: a pure package starts a goroutine", s.position(n))
			case *ast.ChanType, *ast.SelectStmt, *ast.SendStmt:
				t.Errorf("%s: a pure package uses a channel", s.position(n))
			case *ast.SelectorExpr:
				if text := types.ExprString(n); text == "time.Now" || text == "time.Since" || text == "time.After" {
					t.Errorf("%s: a pure package reads the clock", s.position(n))
				}
			}
			return true
		})
	}
	for _, p := range purePackages {
		if !seen[p] {
			t.Errorf("%s: listed as pure, but there is no such package", p)
		}
	}
}

// TestReplicationNeverRangesOverAMap holds one more promise: same input, same output, in the same order.
func TestReplicationNeverRangesOverAMap(t *testing.T) {
	for _, s := range handwritten(t) {
		if s.isTest() || !s.in([]string{"storenode/replication", "storenode/membership"}) {
			continue
		}
		maps := mapNames(s.ast)
		ast.Inspect(s.ast, func(n ast.Node) bool {
			loop, ok := n.(*ast.RangeStmt)
			if ok && maps[lastName(loop.X)] {
				t.Errorf("%s: ranges over a map, whose order is random", s.position(loop))
			}
			return true
		})
	}
}

// mapNames are the fields and variables declared with a map type in one file. Names alone are no proof of types, but
// the packages it is used for are small and their names distinct.
func mapNames(f *ast.File) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			if _, ok := n.Type.(*ast.MapType); ok {
				for _, name := range n.Names {
					names[name.Name] = true
				}
			}
		case *ast.AssignStmt:
			for i, right := range n.Rhs {
				if isMapMaker(right) && i < len(n.Lhs) && n.Tok == token.DEFINE {
					names[lastName(n.Lhs[i])] = true
				}
			}
		}
		return true
	})
	return names
}

func isMapMaker(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		_, ok := e.Type.(*ast.MapType)
		return ok
	case *ast.CallExpr:
		if name, ok := e.Fun.(*ast.Ident); ok && name.Name == "make" && len(e.Args) > 0 {
			_, isMap := e.Args[0].(*ast.MapType)
			return isMap
		}
	}
	return false
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
