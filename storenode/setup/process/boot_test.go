package process

import (
	"os"
	"path/filepath"
	"testing"
)

func TestABootIsNamedByItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "boot_id")
	if _, err := Boot(file); err == nil {
		t.Error("a file that is not there names a boot")
	}
	boot := func(id string) uint64 {
		if err := os.WriteFile(file, []byte(id), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Boot(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if a, again, b := boot("one"), boot("one"), boot("other"); a != again || a == b {
		t.Errorf("boots are %x, %x and %x", a, again, b)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Boot(file); err == nil {
		t.Error("an empty file names a boot")
	}
	if _, err := Boot(BootIDFile); err != nil {
		t.Error(err)
	}
}
