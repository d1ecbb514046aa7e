package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/shale-storage/shale/test/verifier/history"
)

// verdict is what check prints.
type verdict struct {
	// Blocks that the log names, Unsettled those with a write without an answer, Lost those that are wrong.
	Blocks    int `json:"blocks"`
	Unsettled int `json:"unsettled"`
	Lost      int `json:"lost"`
	// First says what is wrong with the first that is.
	First string `json:"first,omitempty"`
}

func check(path, log string) (verdict, error) {
	past, err := history.Read(log)
	if err != nil {
		return verdict{}, err
	}
	blocks := past.Blocks()
	if len(blocks) == 0 {
		return verdict{}, fmt.Errorf("log %s names no block: nothing would be checked", log)
	}
	f, err := openDirect(path, os.O_RDONLY)
	if err != nil {
		return verdict{}, err
	}
	defer func() { _ = f.Close() }() // it was only read
	buffer, err := aligned(blockSize)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{Blocks: len(blocks)}
	for _, number := range blocks {
		if past.Unsettled(number) {
			v.Unsettled++
		}
		if err := checkBlock(f, buffer, number, past); err != nil {
			if v.Lost++; v.Lost == 1 {
				v.First = err.Error()
			}
		}
	}
	return v, nil
}

func checkBlock(f io.ReaderAt, buffer []byte, number uint32, past *history.History) error {
	if err := readFull(f, buffer, number); err != nil {
		return err
	}
	version, err := versionOf(buffer, number)
	if err != nil {
		return err
	}
	if !past.Allows(number, version) {
		return fmt.Errorf("block %d holds version %d; possible are %v", number, version, past.Possible(number))
	}
	return nil
}

// readFull reads Blocks from number on. Behind the end of a file there are zeros: it ends before what never was
// acknowledged.
func readFull(f io.ReaderAt, buffer []byte, number uint32) error {
	n, err := f.ReadAt(buffer, int64(number)*blockSize)
	if errors.Is(err, io.EOF) {
		clear(buffer[n:])
		return nil
	}
	if err != nil {
		return fmt.Errorf("read block %d: %w", number, err)
	}
	return nil
}
