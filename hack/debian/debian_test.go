package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnInstallationWaitsForAnother(t *testing.T) {
	dir := t.TempDir()
	said := filepath.Join(dir, "said")
	for name, script := range map[string]string{
		"dpkg-query": "#!/bin/sh\nexit 1\n",
		"apt-get":    "#!/bin/sh\necho \"$@\" >> " + said + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	if err := Need(t.Context(), "fio"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(said)
	line := string(text)
	if err != nil || !strings.Contains(line, "-o DPkg::Lock::Timeout=") || !strings.HasSuffix(line, " fio\n") {
		t.Errorf("apt-get was told %q, %v", line, err)
	}
}
