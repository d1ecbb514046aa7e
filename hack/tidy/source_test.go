package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// source is one Go file of the project.
type source struct {
	// path is relative to the project's root, with slashes.
	path  string
	text  string
	set   *token.FileSet
	ast   *ast.File
	lines []string
}

func (s *source) isTest() bool      { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) isGenerated() bool { return ast.IsGenerated(s.ast) }
func (s *source) dir() string       { return filepath.ToSlash(filepath.Dir(s.path)) }
func (s *source) in(dirs []string) bool {
	for _, d := range dirs {
		if s.path == d || strings.HasPrefix(s.path, d+"/") {
			return true
		}
	}
	return false
}

func (s *source) position(n ast.Node) token.Position {
	p := s.set.Position(n.Pos())
	p.Filename = s.path
	return p
}

// sources parses every Go file of the project.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	for _, path := range files(t, ".go") {
		text := read(t, path)
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, path, text, parser.ParseComments)
		if err != nil {
			t.Fatalf("parse %s: %v", path, err)
		}
		all = append(all, &source{path: path, text: text, set: set, ast: parsed, lines: strings.Split(text, "\n")})
	}
	if len(all) == 0 {
		t.Fatal("found no Go files: the walk is broken")
	}
	return all
}

// handwritten are the sources that people edit.
func handwritten(t *testing.T) []*source {
	t.Helper()
	var all []*source
	for _, s := range sources(t) {
		if !s.isGenerated() {
			all = append(all, s)
		}
	}
	return all
}

// files are the project's files with the suffix, relative to its root.
func files(t *testing.T, suffix string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "bin") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, suffix) {
			relative, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			paths = append(paths, filepath.ToSlash(relative))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
