package fuse

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/shale-storage/shale/csi/attach/memory"
)

func TestCloseDoesNotWaitForAReaderLongerThanItsCaller(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("unmounting needs root")
	}
	m, err := memory.New(blockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	e, err := newExport(Options{Dir: t.TempDir(), Backend: m, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	// As a reader in a file system that the kernel has not ended.
	e.running.Add(1)
	late := time.AfterFunc(5*time.Second, e.running.Done)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a reader: %v", err)
	}
	if late.Stop() {
		e.running.Done()
	}
	if err := e.Close(t.Context()); err != nil {
		t.Errorf("without: %v", err)
	}
}
