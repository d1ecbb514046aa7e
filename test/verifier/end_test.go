package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lateDisk fails the operations that end after the run was told to stop.
type lateDisk struct {
	*os.File
	// stop is called by the first operation after calm ones.
	stop  func()
	calm  int64
	count atomic.Int64
	// loses lets reads find zeros instead of an error.
	loses bool
}

func (d *lateDisk) late() bool {
	if d.count.Add(1) <= d.calm {
		return false
	}
	d.stop()
	return true
}

func (d *lateDisk) ReadAt(b []byte, at int64) (int, error) {
	if !d.late() {
		return d.File.ReadAt(b, at)
	}
	if d.loses {
		clear(b)
		return len(b), nil
	}
	return 0, unix.EIO
}

func (d *lateDisk) WriteAt(b []byte, at int64) (int, error) {
	if d.late() && !d.loses {
		return 0, unix.EIO
	}
	return d.File.WriteAt(b, at)
}

func (d *lateDisk) Sync() error {
	if d.late() && !d.loses {
		return unix.EIO
	}
	return nil
}

// endLate runs on a disk that fails operations which are under way when the run is told to stop.
func endLate(t *testing.T, loses bool) error {
	t.Helper()
	path, log := written(t)
	f, err := openDirect(path, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := openLedger(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.file.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const known = 16 // reads of settle
	d := &lateDisk{File: f, stop: cancel, calm: known, loses: loses}
	tally := &tally{began: make([]time.Time, 1)}
	w := worker{file: d, log: l, tally: tally, blocks: known, polynomial: ieee}
	if err := run(ctx, writeOptions{depth: 1}, w); err != nil {
		t.Fatal(err)
	}
	return tally.finish()
}

func TestAnErrorAfterTheEndIsTold(t *testing.T) {
	if err := endLate(t, false); err == nil || !strings.Contains(err.Error(), unix.EIO.Error()) {
		t.Errorf("the run says %v", err)
	}
}

func TestALossFoundAfterTheEndIsTold(t *testing.T) {
	for range 200 { // until the last operation is a read
		if err := endLate(t, true); err != nil {
			if !strings.Contains(err.Error(), "LOST") {
				t.Errorf("the run says %v", err)
			}
			return
		}
	}
	t.Error("no run saw that it read zeros")
}

func TestALossIsToldAtOnceAndBesideOtherErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	report, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close()
	tally := &tally{report: report}
	tally.fail(unix.EIO)
	tally.fail(&os.PathError{Op: "LOST: block 7", Err: unix.EILSEQ})
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	var last progress
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if last.Ended || !strings.Contains(last.Error, "LOST") || !strings.Contains(last.Error, unix.EIO.Error()) {
		t.Errorf("the last line is %+v", last)
	}
}

func TestARunThatCannotBeginReportsIt(t *testing.T) {
	dir := t.TempDir()
	o := writeOptions{
		path: filepath.Join(dir, "data"), log: dir, report: filepath.Join(dir, "report"), size: blockSize, depth: 1,
	}
	if err := write(t.Context(), o); err == nil {
		t.Error("a directory was taken for a log")
	}
	content, err := os.ReadFile(o.report)
	if err != nil || !strings.Contains(string(content), `"error":`) || !strings.Contains(string(content), `"ended":true`) {
		t.Errorf("the report says %s, %v", content, err)
	}
}
