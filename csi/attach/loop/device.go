package loop

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/fuse"
)

const (
	controlPath = "/dev/loop-control"
	// loopMajor is the fixed major number of loop devices.
	loopMajor = 7
	// claimAttempts bounds how often another process may take the free device that we were told of.
	claimAttempts = 32
	// maxRequest bounds a request of the device, in KiB, so that FUSE sends it as one. FUSE takes 256 pages (1 MiB) and
	// cuts there, in the middle of a block if the memory does not begin with a page; a request has at most 128 segments,
	// each of which may touch one page more than its size tells.
	maxRequest = 512
)

// errUnbound says that a loop device has no backing file.
var errUnbound = errors.New("loop device is not bound")

// device is the number of a loop device.
type device int

func (d device) path() string { return "/dev/loop" + strconv.Itoa(int(d)) }

// bind makes a loop device of the file at path, under the given name.
func bind(log *slog.Logger, path, name string, readOnly bool) (device, error) {
	flags, loopFlags := unix.O_RDWR, uint32(unix.LO_FLAGS_DIRECT_IO)
	if readOnly {
		flags, loopFlags = unix.O_RDONLY, loopFlags|unix.LO_FLAGS_READ_ONLY
	}
	file, err := unix.Open(path, flags|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	// The device holds its own reference to the file.
	defer func() { _ = unix.Close(file) }()
	config := unix.LoopConfig{Fd: uint32(file), Size: attach.BlockSize, Info: unix.LoopInfo64{Flags: loopFlags}}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], name)
	control, err := unix.Open(controlPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", controlPath, err)
	}
	defer func() { _ = unix.Close(control) }()
	for range claimAttempts {
		number, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return 0, fmt.Errorf("find a free loop device: %w", err)
		}
		d := device(number)
		// Set before the bind, which leaves it as it is.
		if err := d.limit(); err != nil {
			log.Warn("Direct I/O from memory that does not begin with a page may fail", "device", d.path(), "cause", err)
		}
		if err := d.configure(&config); !errors.Is(err, unix.EBUSY) {
			return d, err
		}
	}
	return 0, fmt.Errorf("find a free loop device: %d were taken by others meanwhile", claimAttempts)
}

// configure binds d; EBUSY if somebody else did.
func (d device) configure(config *unix.LoopConfig) error {
	if err := d.makeNode(); err != nil {
		return err
	}
	fd, err := unix.Open(d.path(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", d.path(), err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlLoopConfigure(fd, config); err != nil {
		return fmt.Errorf("configure %s: %w", d.path(), err)
	}
	return nil
}

// limit sets maxRequest, unless that was done before: a change waits for all I/O of the device, which another call may
// have bound meanwhile. It outlasts the bind.
func (d device) limit() error {
	text, err := os.ReadFile(d.limitPath())
	if err != nil {
		return err
	}
	if now, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && now <= maxRequest {
		return nil
	}
	return os.WriteFile(d.limitPath(), []byte(strconv.Itoa(maxRequest)), 0)
}

func (d device) limitPath() string { return fmt.Sprintf("/sys/block/loop%d/queue/max_sectors_kb", d) }

// makeNode makes the device node that a container's /dev, being a copy of an earlier moment, may lack.
func (d device) makeNode() error {
	err := unix.Mknod(d.path(), unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(d))))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make node %s: %w", d.path(), err)
	}
	return nil
}

// name is what the device was bound under; errUnbound if it is not bound.
func (d device) name() (string, error) {
	fd, err := unix.Open(d.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", d.path(), err)
	}
	defer func() { _ = unix.Close(fd) }()
	return nameOf(fd)
}

func nameOf(fd int) (string, error) {
	info, err := unix.IoctlLoopGetStatus64(fd)
	if errors.Is(err, unix.ENXIO) {
		return "", errUnbound
	}
	if err != nil {
		return "", fmt.Errorf("get loop status: %w", err)
	}
	text, _, _ := bytes.Cut(info.File_name[:], []byte{0})
	return string(text), nil
}

// clear unbinds d if it is bound under name. With exclusive it first claims the device, so ErrBusy is the answer while
// a file system on it is mounted. A device that others have open is cleared by the last of them.
func (d device) clear(name string, exclusive bool) error {
	flags := unix.O_RDONLY | unix.O_CLOEXEC
	if exclusive {
		flags |= unix.O_EXCL
	}
	fd, err := unix.Open(d.path(), flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return attach.ErrBusy
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", d.path(), err)
	}
	defer func() { _ = unix.Close(fd) }()
	found, err := nameOf(fd)
	if err != nil || found != name {
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0); err != nil {
		return fmt.Errorf("clear %s: %w", d.path(), err)
	}
	return nil
}

// keep takes back a clear that waits for openers; errUnbound if they have gone. While keep has the device open that
// cannot happen. The kernel does it when all I/O of the device has ended, and begins none before that.
func (d device) keep(name string) error {
	fd, err := unix.Open(d.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) {
		return errUnbound
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", d.path(), err)
	}
	defer func() { _ = unix.Close(fd) }()
	found, err := nameOf(fd)
	if err != nil {
		return err
	}
	if found != name {
		return errUnbound
	}
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return fmt.Errorf("get loop status: %w", err)
	}
	info.Flags &^= unix.LO_FLAGS_AUTOCLEAR
	if err := unix.IoctlLoopSetStatus64(fd, info); err != nil {
		return fmt.Errorf("keep %s: %w", d.path(), err)
	}
	return nil
}

// isBoundAs reports whether d is still bound under name.
func (d device) isBoundAs(name string) (bool, error) {
	found, err := d.name()
	if errors.Is(err, errUnbound) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return found == name, err
}

// exports are the loop devices over a file that has the name of an export's; others are not even opened, since nobody
// knows what they would wait for.
func exports() ([]device, error) {
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var all []device
	for _, p := range paths {
		if file, err := os.ReadFile(p); err != nil || !isExport(string(file)) {
			continue // gone meanwhile, or somebody else's
		}
		text := strings.TrimPrefix(strings.Split(p, string(os.PathSeparator))[3], "loop")
		if n, err := strconv.Atoi(text); err == nil {
			all = append(all, device(n))
		}
	}
	return all, nil
}

// isExport reports whether the kernel speaks of a file as an export has it. " (deleted)" may follow the name.
func isExport(backingFile string) bool {
	return strings.HasSuffix(strings.TrimSuffix(strings.TrimSpace(backingFile), " (deleted)"), "/"+fuse.FileName)
}
