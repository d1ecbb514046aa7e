package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asMain has this binary be the storenode.
const asMain = "SHALE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestACommandThatFailsEndsWithOneAndSaysWhy(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for command, want := range map[string]int{"check": 1, "inspect": 1, "--version": 0} {
		c := exec.CommandContext(t.Context(), os.Args[0], command, missing)
		c.Env = append(os.Environ(), asMain+"=1")
		out, err := c.CombinedOutput()
		code := 0
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			code = e.ExitCode()
		}
		if code != want || want > 0 && !strings.Contains(string(out), missing) {
			t.Errorf("%s ended with %d, want %d: %v\n%s", command, code, want, err, out)
		}
	}
}
