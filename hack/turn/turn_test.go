package turn

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestOneWhoWaitsCanBeInterruptedAndIsToldWhoHasTheTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	mine, err := Take(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	_, err = Take(ctx, path)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("the second was told %v", err)
	}
	mine.Give()
	again, err := Take(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	mine.Give() // takes nothing from the other
	if next, err := try(path); next != nil || err != nil {
		t.Errorf("a third has it too: %v, %v", next, err)
	}
	again.Give()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is left: %v", err)
	}
}

func TestOneAtATimeHasTheTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var having atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for taken := 0; taken < 50; {
				turn, err := try(path)
				if err != nil {
					t.Error(err)
					return
				}
				if turn == nil {
					runtime.Gosched()
					continue
				}
				taken++
				if n := having.Add(1); n != 1 {
					t.Errorf("%d have the turn", n)
				}
				runtime.Gosched()
				having.Add(-1)
				turn.Give()
			}
		})
	}
	all.Wait()
}
