package mounter

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Usage is the space of a mounted file system or, with TotalBytes only, of a block device.
type Usage struct {
	TotalBytes, UsedBytes, AvailableBytes    int64
	TotalInodes, UsedInodes, AvailableInodes int64
	// Block: a device, of which only the size is known.
	Block bool
}

// Usage of what is at path: a directory in a file system, or a block device.
func (m *Mounter) Usage(path string) (Usage, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Usage{}, fmt.Errorf("look at %s: %w", path, err)
	}
	if info.Mode()&os.ModeDevice != 0 {
		return deviceUsage(path)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Usage{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	unit := s.Frsize
	return Usage{
		TotalBytes:      int64(s.Blocks) * unit,
		UsedBytes:       int64(s.Blocks-s.Bfree) * unit,
		AvailableBytes:  int64(s.Bavail) * unit,
		TotalInodes:     int64(s.Files),
		UsedInodes:      int64(s.Files - s.Ffree),
		AvailableInodes: int64(s.Ffree),
	}, nil
}

func deviceUsage(path string) (Usage, error) {
	f, err := os.Open(path)
	if err != nil {
		return Usage{}, fmt.Errorf("open device: %w", err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, 2)
	if err != nil {
		return Usage{}, fmt.Errorf("size of %s: %w", path, err)
	}
	return Usage{TotalBytes: size, Block: true}, nil
}
