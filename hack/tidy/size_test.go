package tidy

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The gates. What is wished is far below them.
const (
	maxFileLines    = 600
	maxTestLines    = 1200
	maxLineRunes    = 120
	maxPackageFiles = 15
	maxParameters   = 5
	makefileLines   = 250
)

func TestFilesAreShort(t *testing.T) {
	for _, s := range handwritten(t) {
		limit := maxFileLines
		if s.isTest() {
			limit = maxTestLines
		}
		if n := len(s.lines); n > limit {
			t.Errorf("%s: %d lines, at most %d: give its second idea a file of its own", s.path, n, limit)
		}
	}
}

func TestLinesAreShort(t *testing.T) {
	for _, s := range handwritten(t) {
		for i, line := range s.lines {
			if strings.HasPrefix(strings.TrimSpace(line), "// +kubebuilder:") {
				continue // a marker cannot be broken
			}
			if n := utf8.RuneCountInString(line); n > maxLineRunes {
				t.Errorf("%s:%d: %d characters, at most %d", s.path, i+1, n, maxLineRunes)
			}
		}
	}
}

func TestPackagesAreSmall(t *testing.T) {
	count := map[string]int{}
	for _, s := range handwritten(t) {
		if !s.isTest() {
			count[s.dir()]++
		}
	}
	for dir, n := range count {
		if n > maxPackageFiles {
			t.Errorf("%s: %d files, at most %d: it holds more than one idea", dir, n, maxPackageFiles)
		}
	}
}

func TestFunctionsTakeFewParameters(t *testing.T) {
	for _, s := range handwritten(t) {
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && !s.isTest() && f.Type.Params.NumFields() > maxParameters {
				t.Errorf("%s: %s takes %d parameters, at most %d: make a struct of them",
					s.position(f), f.Name.Name, f.Type.Params.NumFields(), maxParameters)
			}
		}
	}
}

func TestMakefileIsShort(t *testing.T) {
	lines := 1
	for _, c := range read(t, "Makefile") {
		if c == '\n' {
			lines++
		}
	}
	if lines > makefileLines {
		t.Errorf("Makefile: %d lines, at most %d: move recipes to hack/ in Go", lines, makefileLines)
	}
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if !s.isTest() {
			documented[s.dir()] = documented[s.dir()] || s.ast.Doc != nil
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment: say what it is, its invariants, who may call it, what fails", dir)
		}
	}
}

func TestPackagesAreNamedAfterAnIdea(t *testing.T) {
	banned := []string{"util", "utils", "common", "types", "helpers", "misc", "base", "lib", "pkg", "internal"}
	for _, s := range sources(t) {
		if slices.Contains(banned, path.Base(s.dir())) || slices.Contains(banned, s.ast.Name.Name) {
			t.Errorf("%s: %q names no idea", s.path, path.Base(s.dir()))
		}
	}
}
