package main

import (
	"context"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/test/verifier/history"
)

// written makes a file by a short run and returns it with its log.
func written(t *testing.T) (path, log string) {
	t.Helper()
	dir := t.TempDir()
	path, log = filepath.Join(dir, "data"), filepath.Join(dir, "log")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := write(ctx, writeOptions{path: path, log: log, size: 16 * blockSize, depth: 4, prefill: true}); err != nil {
		t.Fatal(err)
	}
	return path, log
}

func TestWhatWasAcknowledgedIsFound(t *testing.T) {
	path, log := written(t)
	v, err := check(path, log)
	if err != nil || v.Lost != 0 || v.Blocks == 0 {
		t.Errorf("check says %+v, %v", v, err)
	}
}

func TestEveryKindOfLossIsSeen(t *testing.T) {
	for name, damage := range map[string]func(b []byte){
		"torn":       func(b []byte) { clear(b[512:1024]) },
		"lost":       func(b []byte) { clear(b) },
		"old":        func(b []byte) { fill(b, 0, 1, ieee) },
		"misplaced":  func(b []byte) { fill(b, 1, 1_000_000, ieee) },
		"never sent": func(b []byte) { fill(b, 0, 1_000_000, ieee) },
	} {
		t.Run(name, func(t *testing.T) {
			path, log := written(t)
			l, err := openLedger(log)
			if err != nil {
				t.Fatal(err)
			}
			// The log says that Block 0 was written once more.
			versions, err := l.send(0, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.end(history.Acknowledged, 0, versions); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b := make([]byte, blockSize)
			fill(b, 0, versions[0], ieee)
			damage(b)
			if _, err := f.WriteAt(b, 0); err != nil {
				t.Fatal(err)
			}
			v, err := check(path, log)
			if err != nil || v.Lost != 1 || v.First == "" {
				t.Errorf("check says %+v, %v", v, err)
			}
		})
	}
}

func TestAnEmptyLogIsNoProof(t *testing.T) {
	path, _ := written(t)
	if v, err := check(path, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Errorf("check says %+v of nothing", v)
	}
}

func TestARunGoesOnFromTheLastOne(t *testing.T) {
	path, log := written(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := write(ctx, writeOptions{path: path, log: log, size: 16 * blockSize, depth: 4}); err != nil {
		t.Fatal(err)
	}
	if v, err := check(path, log); err != nil || v.Lost != 0 || v.Blocks != 16 {
		t.Errorf("check says %+v, %v", v, err)
	}
}

func TestARunThatBeginsOnALossSaysSo(t *testing.T) {
	path, log := written(t)
	if err := os.Truncate(path, 8*blockSize); err != nil {
		t.Fatal(err)
	}
	err := write(t.Context(), writeOptions{path: path, log: log, size: 16 * blockSize, depth: 4})
	if err == nil || !strings.Contains(err.Error(), "LOST: block 8") {
		t.Errorf("it says %v", err)
	}
}

func TestFillEndsWithTheSpaceItWasGiven(t *testing.T) {
	got, err := fillUp(filepath.Join(t.TempDir(), "data"), 3*fillStep+1)
	if err != nil || got != (filled{Bytes: 3 * fillStep}) {
		t.Errorf("filled %+v, %v", got, err)
	}
}

func TestBlocksCanAllHaveTheSameCRC(t *testing.T) {
	var one, other [blockSize]byte
	fill(one[:], 1, 7, castagnoli)
	fill(other[:], 2, 9, castagnoli)
	if a, b := crc32.Checksum(one[:], castagnoli), crc32.Checksum(other[:], castagnoli); a != b {
		t.Errorf("their CRC32C are %d and %d", a, b)
	}
	if v, err := versionOf(one[:], 1); v != 7 || err != nil {
		t.Errorf("the first holds %d, %v", v, err)
	}
}
