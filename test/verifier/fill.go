package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fillStep is how much fill writes at a time.
const fillStep = 1 << 20

// filled is what fill prints.
type filled struct {
	// Bytes written; Full says that it ended because there was no space.
	Bytes int64 `json:"bytes"`
	Full  bool  `json:"full"`
}

// fillUp writes from the start on until the end, or until there is no space.
func fillUp(path string, size int64) (filled, error) {
	f, err := openDirect(path, os.O_RDWR)
	if err != nil {
		return filled{}, err
	}
	defer func() { _ = f.Close() }() // nobody reads what it wrote
	buffer, err := aligned(fillStep)
	if err != nil {
		return filled{}, err
	}
	for i := range buffer {
		buffer[i] = 0xA5
	}
	var done filled
	for done.Bytes+fillStep <= size {
		_, err := f.WriteAt(buffer, done.Bytes)
		if errors.Is(err, unix.ENOSPC) {
			done.Full = true
			return done, nil
		}
		if err != nil {
			return done, fmt.Errorf("fill from byte %d: %w", done.Bytes, err)
		}
		done.Bytes += fillStep
	}
	return done, nil
}
