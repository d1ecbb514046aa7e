package e2e

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/shale-storage/shale/hack/lab"
)

// guards names the lab's directory to a process of this program that is the guard of it.
const guards = "SHALE_E2E_GUARDS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(guards); dir != "" {
		os.Exit(beGuard(dir))
	}
	os.Exit(m.Run())
}

// guard sees to it that the lab in dir ends with this test, however it ends: an interrupt and go test's -timeout run no
// cleanup. It is a process whose standard input ends with ours, in a session that no Ctrl-C reaches.
func guard(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), guards+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the guard of %s: %v", dir, err)
		}
	})
}

// beGuard waits for the end of the test, and ends the lab if the test has not. It returns the exit status.
func beGuard(dir string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		log.Error("Waiting for the test's end failed", "error", err)
	}
	if err := lab.Down(context.Background(), dir, log); err != nil {
		log.Error("Ending the lab of the test failed", "error", err)
		return 1
	}
	return 0
}

func TestGuardIsContentWithoutALab(t *testing.T) {
	guard(t, filepath.Join(t.TempDir(), "none"))
}
