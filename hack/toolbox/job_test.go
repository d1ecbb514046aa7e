package toolbox

import (
	"os"
	"path/filepath"
	"testing"
)

func TestABinaryIsBuiltAgainWhenItsFlagsChange(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/tool\n", "main.go": "package main\n\nfunc main() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	j := job{
		tool: tool{path: ".", tags: "seccomp", cgo: true}, name: "tool", module: dir, out: filepath.Join(dir, "out"),
	}
	if j.isBuilt() {
		t.Error("nothing is said to be built")
	}
	if err := j.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !j.isBuilt() {
		t.Error("what was just built is said not to be")
	}
	other, pure := j, j
	other.tool.tags = ""
	pure.tool.cgo = false
	if other.isBuilt() || pure.isBuilt() {
		t.Error("a binary with other flags is said to be the tool")
	}
	if err := os.Truncate(j.out, 0); err != nil {
		t.Fatal(err)
	}
	if j.isBuilt() {
		t.Error("an empty file is said to be the tool")
	}
}
