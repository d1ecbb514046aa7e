package main

import (
	"os"
	"strings"
	"testing"
)

// TestWhatIsMeasuredRunsLikeTheCluster: storenodes have it from their image, initiators from the chart.
func TestWhatIsMeasuredRunsLikeTheCluster(t *testing.T) {
	for path, want := range map[string]string{
		"../../Dockerfile": "\nENV GODEBUG=" + quietWatcher + "\n",
		"../../charts/shale/templates/initiator.yaml": "{name: GODEBUG, value: " + quietWatcher + "}\n",
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), want); n != 1 {
			t.Errorf("%s sets it %d times, want %q once", path, n, want)
		}
	}
}
