package loop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// cleanUpTimeout bounds how long CleanUp waits for what the kernel says of the loop devices.
	cleanUpTimeout = 5 * time.Second
	// unmountLimit bounds how many mounts may lie on top of each other on one leftover directory.
	unmountLimit = 8
)

// CleanUp clears this state directory's loop devices that were not adopted, and unmounts its exports, whose process has
// ended. A loop device of which the kernel says nothing in time is left as it is.
func (f *Frontend) CleanUp(ctx context.Context) error {
	devices, err := exports()
	if err != nil {
		return err
	}
	devices = slices.DeleteFunc(devices, f.isAdopted)
	err = f.cleanDevices(ctx, devices)
	entries, e := os.ReadDir(f.options.StateDir)
	if e != nil {
		return errors.Join(err, fmt.Errorf("list state directory: %w", e))
	}
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, cleanMount(filepath.Join(f.options.StateDir, entry.Name())))
		}
	}
	return err
}

// cleanDevices asks all at once: an open cannot be cancelled, and one that waits for I/O would keep all others waiting.
func (f *Frontend) cleanDevices(ctx context.Context, devices []device) error {
	ctx, cancel := context.WithTimeout(ctx, cleanUpTimeout)
	defer cancel()
	type answer struct {
		device device
		err    error
	}
	answers := make(chan answer, len(devices))
	silent := map[device]bool{}
	for _, d := range devices {
		silent[d] = true
		go func() { answers <- answer{d, f.cleanDevice(ctx, d)} }()
	}
	var failed []error
	for len(silent) > 0 {
		select {
		case a := <-answers:
			delete(silent, a.device)
			failed = append(failed, a.err)
		case <-ctx.Done():
			failed = append(failed, fmt.Errorf("the kernel says nothing of loop devices %v",
				slices.Sorted(maps.Keys(silent))))
			return errors.Join(failed...)
		}
	}
	return errors.Join(failed...)
}

// cleanDevice clears d if it is ours. Not exclusively: its I/O fails anyway, and it must go with its last opener.
func (f *Frontend) cleanDevice(ctx context.Context, d device) error {
	fd, err := unix.Open(d.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		// What cannot be asked (gone meanwhile, not in this container's /dev) is not ours.
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	name, err := nameOf(fd)
	if err != nil || !strings.HasPrefix(name, f.prefix()) {
		return nil
	}
	// Once CleanUp has returned, it may be a device of this process. If not, it remains what it is while it is open.
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("clean up %s: %w", d.path(), err)
	}
	f.options.Log.Info("Clearing loop device of an earlier process", "device", d.path())
	if f.options.LinkDir != "" {
		f.cleanLinks(d)
	}
	if err := unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("clear %s: %w", d.path(), err)
	}
	return nil
}

// cleanLinks removes the links that lead to d.
func (f *Frontend) cleanLinks(d device) {
	entries, err := os.ReadDir(f.options.LinkDir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		a := attachment{device: d, link: filepath.Join(f.options.LinkDir, entry.Name())}
		a.removeLink()
	}
}

// cleanMount unmounts what lies on dir and removes it. A mount whose process has gone answers nothing, so nothing but
// the unmount is asked of it.
func cleanMount(dir string) error {
	for range unmountLimit {
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.MNT_FORCE)
		if errors.Is(err, unix.EINVAL) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("remove mount point: %w", err)
	}
	return nil
}
