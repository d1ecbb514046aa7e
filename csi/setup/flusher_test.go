package setup

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// flusherMark, when set, makes the test the child: where it says what it is.
const flusherMark = "SHALE_TEST_FLUSHER_MARK"

func TestTheChildDoesNotWaitForItsOwnDevices(t *testing.T) {
	if mark := os.Getenv(flusherMark); mark != "" {
		is, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0, 0)
		text := strconv.Itoa(int(is)) + " " + strconv.Itoa(int(errno))
		if err := os.WriteFile(mark, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	log := slog.New(slog.DiscardHandler)
	err := becomeFlusher(log)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		t.Skipf("needs CAP_SYS_RESOURCE, Linux 5.6 and no cgo: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _, _ = syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 0, 0, 0, 0, 0) }()
	mark := filepath.Join(t.TempDir(), "mark")
	t.Setenv(flusherMark, mark)
	if err := restarting(t.Context(), os.Args[0], []string{"-test.run=^" + t.Name() + "$"}, log); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(mark); err != nil || string(text) != "1 0" {
		t.Errorf("the child says %q (%v), want that it is an IO_FLUSHER", text, err)
	}
}
