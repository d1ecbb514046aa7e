package images

import (
	"path/filepath"
	"testing"
)

func TestNamesAreThoseOfTheChart(t *testing.T) {
	refs, err := readRefs(filepath.Join("..", "..", "charts", "shale"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		if refs[name] == "" {
			t.Errorf("image %s has no name", name)
		}
	}
}

func TestUnknownImageIsRefused(t *testing.T) {
	if _, err := choose([]string{"storenodes"}); err == nil {
		t.Error("an image that does not exist was chosen")
	}
}
