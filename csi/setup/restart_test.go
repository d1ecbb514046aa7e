package setup

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestAChildThatDiesIsStartedAnewAtOnce(t *testing.T) {
	lives := filepath.Join(t.TempDir(), "lives")
	// It kills itself twice, then ends in order.
	script := `echo x >> "$0"; [ "$(wc -l < "$0")" -ge 3 ] || kill -9 $$`
	err := restarting(t.Context(), "/bin/sh", []string{"-c", script, lives}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(lives); err != nil || strings.Count(string(text), "x") != 3 {
		t.Errorf("it lived %q times (%v), want 3", text, err)
	}
}

func TestAChildThatAlwaysDiesIsLeftToTheKubelet(t *testing.T) {
	err := restarting(t.Context(), "/bin/sh", []string{"-c", "exit 7"}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "in a row") {
		t.Errorf("got %v", err)
	}
}

func TestTheOrderlyEndReachesTheChild(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	mark := filepath.Join(t.TempDir(), "mark")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	script := `trap 'echo ended > "$0"; exit 0' TERM; echo up > /proc/$PPID/fd/` +
		strconv.Itoa(int(writer.Fd())) + `; while :; do sleep 0.01; done`
	go func() {
		ended <- restarting(ctx, "/bin/sh", []string{"-c", script, mark}, slog.New(slog.DiscardHandler))
	}()
	if _, err := reader.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("got %v", err)
	}
	_ = writer.Close()
	if text, err := os.ReadFile(mark); err != nil || string(text) != "ended\n" {
		t.Errorf("the child left %q (%v), want that it ended in order", text, err)
	}
}

func TestTheChildIsNotToldToRestart(t *testing.T) {
	got := withoutRestart([]string{"initiator", "--restart", "--node=restart", "--restart=true"})
	if want := []string{"initiator", "--node=restart"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
