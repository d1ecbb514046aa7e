package mounter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"
)

const (
	// blankWindow is how much of the start and of the end of a device must be zero, in bytes: partition tables, LUKS and
	// file systems have their first and last marks there.
	blankWindow = 64 << 10
	// concurrentFormats bounds the mkfs that run at a time, formatTimeout how long one of them counts.
	concurrentFormats = 4
	formatTimeout     = 5 * time.Minute
	// unmountLimit bounds how many mounts may lie on top of each other at one target.
	unmountLimit = 16
)

// unfinishedPage is where people find out what to do after an interrupted mkfs.
const unfinishedPage = "see docs/operate/unfinished-filesystem.md"

// Errors that a caller tells apart.
var (
	// ErrNotBlank: the device holds something that is no file system we know; it is not formatted.
	ErrNotBlank = errors.New("device is not blank, yet holds no known file system: not formatting it; " + unfinishedPage)
	// ErrUnfinished: the device holds a file system whose making did not end; it is neither mounted nor made anew.
	ErrUnfinished = errors.New("device holds an xfs that was never finished: not formatting it anew; " + unfinishedPage)
	// ErrFilesystemType: the device holds another file system than the one asked for.
	ErrFilesystemType = errors.New("device holds another file system")
)

// Filesystem says what to mount where.
type Filesystem struct {
	Device, Target string
	// Type is ext4 or xfs.
	Type string
	// Flags are mount options.
	Flags    []string
	ReadOnly bool
}

// Mounter mounts. The zero value is not usable.
type Mounter struct {
	safe *mount.SafeFormatAndMount
}

// New uses the mount, blkid, fsck and mkfs.* programs of this machine or container.
func New() *Mounter {
	return &Mounter{safe: mount.NewSafeFormatAndMount(mount.New(""), exec.New(),
		mount.WithMaxConcurrentFormat(concurrentFormats, formatTimeout))}
}

// MountFilesystem makes the file system if the device is blank, checks it, and mounts it on Target, a directory that
// is made if need be.
func (m *Mounter) MountFilesystem(f Filesystem) error {
	found, err := m.safe.GetDiskFormat(f.Device)
	if err != nil {
		return fmt.Errorf("probe %s: %w", f.Device, err)
	}
	put := m.mountExisting
	switch found {
	case "":
		if err := checkBlank(f.Device); err != nil {
			return fmt.Errorf("check %s before formatting: %w", f.Device, err)
		}
		put = m.formatAndMount
	case f.Type:
		if err := checkFinished(f); err != nil {
			return fmt.Errorf("check %s before mounting: %w", f.Device, err)
		}
	default:
		return fmt.Errorf("mount %s as %s: %w: %s", f.Device, f.Type, ErrFilesystemType, found)
	}
	if err := os.MkdirAll(f.Target, 0o750); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	options := slices.Clone(f.Flags)
	if f.ReadOnly {
		options = append(options, "ro")
	}
	if err := put(f, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", f.Device, f.Target, err)
	}
	return nil
}

func (m *Mounter) formatAndMount(f Filesystem, options []string) error {
	return m.safe.FormatAndMountSensitiveWithFormatOptions(f.Device, f.Target, f.Type, options, nil, formatOptions(f.Type))
}

// mountExisting never formats. The function of mount-utils for both probes the device once more, and to blkid one that
// has failed in between looks like one that is blank.
func (m *Mounter) mountExisting(f Filesystem, options []string) error {
	if !slices.Contains(options, "ro") {
		if err := m.check(f.Device); err != nil {
			return err
		}
	}
	return m.safe.Mount(f.Device, f.Target, f.Type, options)
}

// fsckUncorrected is the bit of fsck's exit code that says that errors were left.
const fsckUncorrected = 4

// check repairs what can be repaired without a question. Of what else fsck may say the mount is the better judge.
func (m *Mounter) check(device string) error {
	out, err := m.safe.Exec.Command("fsck", "-a", device).CombinedOutput()
	if exit, ok := errors.AsType[exec.ExitError](err); ok && exit.ExitStatus()&fsckUncorrected != 0 {
		return fmt.Errorf("fsck found errors on %s that want a decision; run it by hand: %.1000s", device, out)
	}
	return nil
}

// formatOptions keep mkfs from discarding the whole of a device that is blank anyway.
func formatOptions(fsType string) []string {
	switch fsType {
	case "ext4":
		return []string{"-E", "nodiscard"}
	case "xfs":
		return []string{"-K"}
	}
	return nil
}

// checkBlank is the second witness: zeros at the start and at the end.
func checkBlank(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	window := make([]byte, min(size, blankWindow))
	for _, offset := range []int64{0, size - int64(len(window))} {
		if _, err := f.ReadAt(window, offset); err != nil {
			return fmt.Errorf("read at %d: %w", offset, err)
		}
		if slices.ContainsFunc(window, func(b byte) bool { return b != 0 }) {
			return ErrNotBlank
		}
	}
	return nil
}

// xfsInProgress is where an xfs says that somebody is still at work on it as a whole: mkfs.xfs sets it first and clears
// it last. To blkid it is an xfs all the same, and the kernel refuses it with an error that tells little.
const xfsInProgress = 126

// checkFinished finds an xfs that was left in progress. An ext4 has its mark written last, so it is not blank instead.
func checkFinished(f Filesystem) error {
	if f.Type != "xfs" {
		return nil
	}
	device, err := os.Open(f.Device)
	if err != nil {
		return err
	}
	defer func() { _ = device.Close() }()
	flag := make([]byte, 1)
	if _, err := device.ReadAt(flag, xfsInProgress); err != nil {
		return fmt.Errorf("read at %d: %w", xfsInProgress, err)
	}
	if flag[0] != 0 {
		return ErrUnfinished
	}
	return nil
}

// BindDirectory shows source at target.
func (m *Mounter) BindDirectory(source, target string, options []string) error {
	if err := os.MkdirAll(target, 0o750); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	return m.bind(source, target, options)
}

// BindDevice shows the device file source at target, a file that is made if need be.
func (m *Mounter) BindDevice(source, target string, options []string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("make directory of mount point: %w", err)
	}
	f, err := os.OpenFile(target, os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	return m.bind(source, target, options)
}

// bind leaves nothing when it fails: the options come by a second step, without which a mount that is to be read-only
// can be written.
func (m *Mounter) bind(source, target string, options []string) error {
	if err := m.safe.Mount(source, target, "", append([]string{"bind"}, options...)); err != nil {
		return errors.Join(fmt.Errorf("bind %s to %s: %w", source, target, err), m.Unmount(target))
	}
	return nil
}

// Source is the device of the topmost mount at target, empty if there is none. Of a bound device file it is the file
// system that holds the file.
func (m *Mounter) Source(target string) (string, error) {
	top, err := m.topmost(target)
	return top.Device, err
}

// IsReadOnly reports whether the topmost mount at target refuses writes.
func (m *Mounter) IsReadOnly(target string) (bool, error) {
	top, err := m.topmost(target)
	return slices.Contains(top.Opts, "ro"), err
}

// topmost is the mount that is seen at target, zero if there is none.
func (m *Mounter) topmost(target string) (mount.MountPoint, error) {
	all, err := m.safe.List()
	if err != nil {
		return mount.MountPoint{}, fmt.Errorf("list mounts: %w", err)
	}
	target = resolve(target)
	for _, p := range slices.Backward(all) {
		if p.Path == target {
			return p, nil
		}
	}
	return mount.MountPoint{}, nil
}

// mountInfo is this process's mount table.
const mountInfo = "/proc/self/mountinfo"

// Targets are the places where the device is mounted, or its file is bound.
func (m *Mounter) Targets(device string) ([]string, error) {
	all, err := mount.ParseMountInfo(mountInfo)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var targets []string
	for i := range all {
		bound := all[i].FsType == "devtmpfs" && filepath.Join("/dev", all[i].Root) == device
		if all[i].Source == device || bound || m.isBoundFile(&all[i], device) {
			targets = append(targets, all[i].MountPoint)
		}
	}
	return targets, nil
}

// isBoundFile recognises a device file bound from a /dev that is a tmpfs, as containers have it. Only mounts of one
// file of that name are looked at: asking others could hang on a dead file system.
func (m *Mounter) isBoundFile(i *mount.MountInfo, device string) bool {
	return i.FsType == "tmpfs" && filepath.Base(i.Root) == filepath.Base(device) && m.IsSameDevice(i.MountPoint, device)
}

// TurnedReadOnly reports whether the file system at target refuses writes although it was mounted for them, as ext4
// does after an error. A mount that is asked to be read-only is that by itself, not only in its file system.
func (m *Mounter) TurnedReadOnly(target string) (bool, error) {
	all, err := mount.ParseMountInfo(mountInfo)
	if err != nil {
		return false, fmt.Errorf("list mounts: %w", err)
	}
	target = resolve(target)
	for _, i := range slices.Backward(all) {
		if i.MountPoint == target {
			// ext4 says the first before Linux 6.12, the second since 6.15, and nothing in between.
			turned := slices.ContainsFunc([]string{"ro", "emergency_ro", "shutdown"}, func(option string) bool {
				return slices.Contains(i.SuperOptions, option)
			})
			return turned && slices.Contains(i.MountOptions, "rw"), nil
		}
	}
	return false, nil
}

// resolve follows links in the directory of path, as the mount table does; the last part may be dead, so it is left
// alone.
func resolve(path string) string {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, filepath.Base(path))
}

// IsCorrupted reports whether what is mounted at target no longer answers.
func (m *Mounter) IsCorrupted(target string) bool {
	_, err := os.Stat(target)
	return err != nil && mount.IsCorruptedMnt(err)
}

// IsSameDevice reports whether both paths are the same block device.
func (m *Mounter) IsSameDevice(a, b string) bool {
	var one, other unix.Stat_t
	if unix.Stat(a, &one) != nil || unix.Stat(b, &other) != nil {
		return false
	}
	return one.Mode&unix.S_IFMT == unix.S_IFBLK && other.Mode&unix.S_IFMT == unix.S_IFBLK && one.Rdev == other.Rdev
}

// Unmount unmounts all that is mounted at target and removes it. A target that is not there is no error.
func (m *Mounter) Unmount(target string) error {
	for range unmountLimit {
		source, err := m.Source(target)
		if err != nil {
			return err
		}
		if source == "" {
			if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove mount point: %w", err)
			}
			return nil
		}
		if err := m.safe.Unmount(target); err != nil {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	return fmt.Errorf("unmount %s: more than %d mounts on top of each other", target, unmountLimit)
}
