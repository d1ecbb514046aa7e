package uring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/apart"
	"github.com/shale-storage/shale/storenode/engine"
)

// fileBlockSize is the unit of I/O on a file, in bytes.
const fileBlockSize = 4096

// openApart is openDirect, on a thread that holds nobody up if the Device hangs.
func openApart(path string) (fd int, info engine.Info, block bool, err error) {
	apart.Call(func() { fd, info, block, err = openDirect(path) })
	return fd, info, block, err
}

// openDirect opens a block device or a regular file for O_DIRECT, exclusively, and describes it.
func openDirect(path string) (fd int, info engine.Info, block bool, err error) {
	info = engine.Info{Path: path, BlockSize: fileBlockSize, Discard: true}
	if fd, err = openFree(path); err != nil {
		return -1, info, false, fmt.Errorf("open device %s: %w", path, err)
	}
	if block, err = describe(fd, &info); err != nil {
		_ = unix.Close(fd)
		return -1, info, false, fmt.Errorf("open device %s: %w", path, err)
	}
	return fd, info, block, nil
}

// openFree opens a Device that nobody else uses. One that was closed a moment ago may still be with the kernel.
func openFree(path string) (int, error) {
	const tries, pause = 20, 10 * time.Millisecond
	for n := 1; ; n++ {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC|unix.O_EXCL, 0)
		if !errors.Is(err, unix.EBUSY) || n == tries {
			return fd, err
		}
		time.Sleep(pause) //nolint:forbidigo // the kernel does not tell when it is done
	}
}

func describe(fd int, info *engine.Info) (block bool, err error) {
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return false, err
	}
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		// O_EXCL means nothing for files, so a lock keeps others of our kind out.
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return false, fmt.Errorf("%w: in use by another process", unix.EBUSY)
		}
		info.Size = s.Size / fileBlockSize * fileBlockSize
		return false, nil
	case unix.S_IFBLK:
		return true, describeBlock(fd, s.Rdev, info)
	}
	return false, fmt.Errorf("%w: neither a block device nor a file", unix.ENOTBLK)
}

func describeBlock(fd int, rdev uint64, info *engine.Info) error {
	block, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
	if err != nil {
		return fmt.Errorf("read block size: %w", err)
	}
	size, err := blockDeviceSize(fd)
	if err != nil {
		return err
	}
	info.BlockSize, info.Size = block, size/fileBlockSize*fileBlockSize
	sys := sysDir(rdev)
	info.Rotational = attribute(sys, "queue/rotational") == "1"
	info.Discard = attribute(sys, "queue/discard_max_bytes") != "0"
	info.Serial, info.Model = attribute(sys, "device/serial"), attribute(sys, "device/model")
	return nil
}

// sysDir is where sysfs describes a block device; for a partition, the whole of it.
func sysDir(rdev uint64) string {
	link := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev))
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return link
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return filepath.Dir(dir)
	}
	return dir
}

func blockDeviceSize(fd int) (int64, error) {
	size, err := unix.Seek(fd, 0, 2)
	if err != nil {
		return 0, fmt.Errorf("read size: %w", err)
	}
	return size, nil
}

// attribute is a file of sysfs, trimmed; empty if there is none.
func attribute(sys, name string) string {
	text, err := os.ReadFile(filepath.Join(sys, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
