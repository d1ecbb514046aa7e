package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOnlyWhatDiffersIsWritten(t *testing.T) {
	t.Chdir(t.TempDir())
	put := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(crds+"/same.yaml", "a")
	put(crds+"/old.yaml", "b")
	put(chartCRDs+"/gone.yaml", "c")
	want := map[string][]byte{
		crds + "/same.yaml": []byte("a"), crds + "/old.yaml": []byte("new"), api + "/" + copiesFile: []byte("d"),
	}
	changed, err := differences(want)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{api + "/" + copiesFile, chartCRDs + "/gone.yaml", crds + "/old.yaml"}
	if !slices.Equal(changed, all) || judge(changed) == nil {
		t.Errorf("these differ: %v (%v), want %v", changed, judge(changed), all)
	}
	if err := write(want, changed); err != nil {
		t.Fatal(err)
	}
	if left, err := differences(want); err != nil || judge(left) != nil {
		t.Errorf("these still differ: %v, %v", left, err)
	}
}
