package images

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestOnlyWhatNobodyNeedsIsRemoved(t *testing.T) {
	b := &builder{dir: t.TempDir()}
	now := time.Now()
	put := func(name string, used time.Time) {
		path := filepath.Join(b.dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, used, used); err != nil {
			t.Fatal(err)
		}
	}
	old, lately := now.Add(-keptUnused-time.Hour), now.Add(-time.Hour)
	put("csi-1.tar", old)
	put("csi-2.tar", lately)
	put("operator-1.tar", old)
	put("base-1.tar", old)
	put("csi-3.tar.part", lately)
	put("csi-3.tar.part.id", lately)
	if err := os.MkdirAll(filepath.Join(b.dir, "context-7", "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.removeHalfMade(); err != nil {
		t.Fatal(err)
	}
	if err := b.removeUnused("csi", now.Add(-keptUnused)); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, file := range files {
		left = append(left, file.Name())
	}
	if want := []string{"base-1.tar", "csi-2.tar", "operator-1.tar"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}
