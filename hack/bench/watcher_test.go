package main

import (
	"os"
	"strings"
	"testing"
)

func TestWhatIsMeasuredRunsLikeTheImages(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\nENV GODEBUG="+quietWatcher+"\n"); n != 2 {
		t.Errorf("%d images of the Dockerfile have GODEBUG=%s, want those of storenode and csi", n, quietWatcher)
	}
}
