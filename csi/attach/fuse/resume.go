package fuse

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// filesPerReader are a blocking and a non-blocking descriptor; the mount's own comes before all readers'.
const filesPerReader = 2

// Files are the descriptors that a successor needs for Resume, and whether the kernel can do that. The Export goes on
// owning them. They are all there are, because the kernel fails what was read from a descriptor when that is closed.
func (e *Export) Files() ([]int, bool) { return e.files, e.resends.Load() }

// Resume goes on with the Export of a process that has ended and whose Files were kept open: the kernel sends again
// what that process had not answered, then what has waited meanwhile. The mount point may be gone. If there is an error
// the files are still the caller's.
func Resume(o Options, files []int) (*Export, error) {
	if n := len(files) - 1; n < filesPerReader || n%filesPerReader != 0 {
		return nil, fmt.Errorf("resume %s: %d descriptors are not those of an export", o.Dir, len(files))
	}
	e, err := newExport(o)
	if err != nil {
		return nil, err
	}
	e.resends.Store(true)
	notify := make([]byte, outHeaderSize)
	putNotify(notify, notifyResend)
	if _, err := unix.Write(files[0], notify); err != nil {
		return nil, fmt.Errorf("resume %s: %w", o.Dir, os.NewSyscallError("FUSE_NOTIFY_RESEND", err))
	}
	e.files = files
	// As many readers as the files are for, whatever this program would open.
	for i := 1; i < len(files); i += filesPerReader {
		e.run(files[i], files[i+1])
	}
	return e, nil
}

// Detach takes the mount point away: the file system lives on as long as somebody has the file open, and needs no name
// for that.
func (e *Export) Detach() error {
	if err := unix.Unmount(e.dir, unix.MNT_DETACH); err != nil && !notMounted(err) {
		return fmt.Errorf("detach mount %s: %w", e.dir, err)
	}
	return nil
}
