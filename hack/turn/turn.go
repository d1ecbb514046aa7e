// Package turn lets one process at a time do what would disturb others: build a tool into the cache, use a lab.
//
// A turn is a lock on a file. The kernel gives it back when the process ends, however it ends; the programs that the
// process starts do not inherit it. The file says who has the turn, and goes when the turn is given back.
package turn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// poll is how often one who waits looks: there is no way to wait for a lock and for the end of a context.
const poll = 100 * time.Millisecond

// Turn is one that was taken.
type Turn struct {
	// file is nil when the turn was given back.
	file *os.File
}

// Take waits for the turn of a path, and says for whom it waits. Its directory must exist.
func Take(ctx context.Context, path string) (*Turn, error) {
	for told := false; ; told = true {
		turn, err := try(path)
		if err != nil {
			return nil, fmt.Errorf("take turn: %w", err)
		}
		if turn != nil {
			return turn, nil
		}
		if !told {
			slog.Info("Waiting until another process is done", "other", holder(path), "lock", path)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, which has %s: %w", holder(path), path, context.Cause(ctx))
		case <-time.After(poll):
		}
	}
}

// Give ends the turn; a second time, or on none, it does nothing.
func (t *Turn) Give() {
	if t == nil || t.file == nil {
		return
	}
	// The lock goes with the descriptor. There is nobody to tell of an error.
	_ = os.Remove(t.file.Name())
	_ = t.file.Close()
	t.file = nil
}

// try takes the turn if nobody has it.
func try(path string) (*Turn, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	if !isStill(f, path) {
		return nil, f.Close()
	}
	who := fmt.Sprintf("process %d (%s)\n", os.Getpid(),
		strings.Join(append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...), " "))
	if err := errors.Join(f.Truncate(0), write(f, who)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Turn{file: f}, nil
}

// isStill is false if whoever had the turn has removed the file between our opening and locking it: then our lock keeps
// nobody out.
func isStill(f *os.File, path string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	theirs, err := os.Stat(path)
	return err == nil && os.SameFile(ours, theirs)
}

func write(f *os.File, text string) error {
	_, err := f.WriteString(text)
	return err
}

// holder is who has the turn, as far as is known.
func holder(path string) string {
	text, err := os.ReadFile(path)
	if who := strings.TrimSpace(string(text)); err == nil && who != "" {
		return who
	}
	return "another process"
}
