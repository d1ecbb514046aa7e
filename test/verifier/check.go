package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// verdict is what check prints.
type verdict struct {
	// Blocks that the log names, Unsettled those whose last write had no answer, Lost those that are wrong.
	Blocks    int `json:"blocks"`
	Unsettled int `json:"unsettled"`
	Lost      int `json:"lost"`
	// First says what is wrong with the first that is.
	First string `json:"first,omitempty"`
}

func check(path, log string) (verdict, error) {
	known, err := readLog(log)
	if err != nil {
		return verdict{}, err
	}
	if len(known) == 0 {
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
	v := verdict{Blocks: len(known)}
	for _, number := range slices.Sorted(maps.Keys(known)) {
		s := known[number]
		if s.sent != s.acknowledged {
			v.Unsettled++
		}
		if err := checkBlock(f, buffer, number, s); err != nil {
			if v.Lost++; v.Lost == 1 {
				v.First = err.Error()
			}
		}
	}
	return v, nil
}

func checkBlock(f io.ReaderAt, buffer []byte, number uint32, s state) error {
	n, err := f.ReadAt(buffer, int64(number)*blockSize)
	if errors.Is(err, io.EOF) && n == 0 {
		clear(buffer) // a file that ends before a block that was never acknowledged
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read block %d: %w", number, err)
	}
	version, err := versionOf(buffer, number)
	if err != nil {
		return err
	}
	if version < s.acknowledged || version > s.sent {
		return fmt.Errorf("block %d holds version %d; %d was acknowledged, %d sent last",
			number, version, s.acknowledged, s.sent)
	}
	return nil
}
