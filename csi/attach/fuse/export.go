package fuse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/shale-storage/shale/csi/attach"
)

const (
	// FileName is the one file of an Export.
	FileName = "volume"
	// FSType is what mountinfo shows.
	FSType = "fuse.shale"

	blockSize = attach.BlockSize
	maxIO     = attach.MaxIO

	// slots bounds the requests in flight of one Export: as many as a loop device has (128), and some for the rest.
	slots = 160
	// readers is the number of threads that read requests. One did 18 k IOPS at depth 1 and 120 k at depth 32 of 4 KiB on
	// two cores with a Backend in memory; two did 17 k and 104 k, three 16 k and 107 k.
	readers = 1
	// batchLimit bounds the requests submitted before a Kick.
	batchLimit = 32
	// copyLimit is the largest payload that is copied out of the landing buffer, in bytes.
	copyLimit = 16 << 10

	// bufferRetry is how long a reader waits for memory before it asks again.
	bufferRetry = time.Millisecond
	// readPause is how long a reader waits after a read that failed for no known reason.
	readPause = 10 * time.Millisecond
	// closePoll is how often Close looks whether all requests are answered.
	closePoll = 5 * time.Millisecond

	// devIocClone is FUSE_DEV_IOC_CLONE: _IOR(229, 0, uint32).
	devIocClone = 0x8004e500
)

// Options of Mount.
type Options struct {
	// Dir is where the file system is mounted: an existing, private directory.
	Dir string
	// Source is shown in mountinfo.
	Source  string
	Backend attach.Backend
	Log     *slog.Logger
}

// Export is a mounted one-file system.
type Export struct {
	dir     string
	size    int64
	backend attach.Backend
	log     *slog.Logger

	// files are the descriptors of /dev/fuse: the first is the mount's own, then a blocking and a non-blocking one for
	// each reader.
	files   []int
	running sync.WaitGroup
	// ctx ends when Close is called, for a reader that waits for memory; ended is the same for one that waits for a slot.
	ctx  context.Context //nolint:containedctx // the life of the readers, which outlives any call
	stop context.CancelFunc

	inFlight atomic.Int64
	// resends: the kernel sends again what a successor asks it for.
	resends atomic.Bool

	// mu guards free, a stack: the slot used last is the one whose memory is in the cache. freed tells of a push.
	mu    sync.Mutex
	freed *sync.Cond
	free  *slot
	ended bool
	slots [slots]slot
}

// Mount makes the file system and serves it until Close.
func Mount(o Options) (*Export, error) {
	e, err := newExport(o)
	if err != nil {
		return nil, err
	}
	if err := e.mount(o.Source); err != nil {
		e.closeFiles()
		return nil, fmt.Errorf("mount %s: %w", o.Dir, err)
	}
	return e, nil
}

func newExport(o Options) (*Export, error) {
	size := o.Backend.Size()
	if size <= 0 || size%blockSize != 0 {
		return nil, fmt.Errorf("export %s: size %d is not a positive multiple of %d", o.Dir, size, blockSize)
	}
	e := &Export{dir: o.Dir, size: size, backend: o.Backend, log: o.Log}
	e.freed = sync.NewCond(&e.mu)
	e.ctx, e.stop = context.WithCancel(context.Background())
	for i := range e.slots {
		e.slots[i].init(e)
		e.push(&e.slots[i])
	}
	return e, nil
}

// Path of the file.
func (e *Export) Path() string { return filepath.Join(e.dir, FileName) }

// mount opens the descriptors, mounts and starts the readers. The kernel's INIT waits in the queue for them.
func (e *Export) mount(source string) error {
	first, err := openDevice()
	if err != nil {
		return err
	}
	e.files = append(e.files, first)
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=%d", first, maxIO)
	if err := unix.Mount(source, e.dir, FSType, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, data); err != nil {
		return os.NewSyscallError("mount", err)
	}
	for range readers {
		if err := e.startReader(first); err != nil {
			_ = unix.Unmount(e.dir, unix.MNT_DETACH|unix.MNT_FORCE)
			e.running.Wait()
			return err
		}
	}
	return nil
}

func (e *Export) startReader(first int) error {
	blocking, err := e.clone(first)
	if err != nil {
		return err
	}
	nonBlocking, err := e.clone(first)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(nonBlocking, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	e.run(blocking, nonBlocking)
	return nil
}

func (e *Export) run(blocking, nonBlocking int) {
	r := &reader{export: e, blocking: blocking, nonBlocking: nonBlocking}
	e.running.Add(1)
	go r.run()
}

// clone opens one more descriptor of the mount. Each has its own list of requests it has read, so threads do not meet
// at one lock, and its own O_NONBLOCK.
func (e *Export) clone(first int) (int, error) {
	fd, err := openDevice()
	if err != nil {
		return -1, err
	}
	e.files = append(e.files, fd)
	master := uint32(first)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), devIocClone, uintptr(unsafe.Pointer(&master)))
	if errno != 0 {
		return -1, os.NewSyscallError("FUSE_DEV_IOC_CLONE", errno)
	}
	return fd, nil
}

func openDevice() (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/fuse: %w", err)
	}
	return fd, nil
}

// Close unmounts and waits until everything in flight is answered and the readers have ended. Nobody has the file open
// any more, or their I/O fails from now on. If ctx ends first the Backend may still hold Requests, or the kernel the
// file: the Export stays as it is and Close may be called again.
func (e *Export) Close(ctx context.Context) error {
	if err := unix.Unmount(e.dir, 0); err != nil && !notMounted(err) {
		e.log.Warn("Forcing unmount", "dir", e.dir, "cause", err)
		if err := unix.Unmount(e.dir, unix.MNT_DETACH|unix.MNT_FORCE); err != nil && !notMounted(err) {
			return fmt.Errorf("unmount %s: %w", e.dir, err)
		}
	}
	e.mu.Lock()
	e.ended = true
	e.freed.Broadcast()
	e.mu.Unlock()
	e.stop()
	if err := e.waitForReaders(ctx); err != nil {
		return err
	}
	idle := func(context.Context) (bool, error) { return e.inFlight.Load() == 0, nil }
	if err := wait.PollUntilContextCancel(ctx, closePoll, true, idle); err != nil {
		return fmt.Errorf("wait for %d requests in flight: %w", e.inFlight.Load(), err)
	}
	e.closeFiles()
	return nil
}

// waitForReaders waits until all have ended, which is when the kernel has let go of the file.
func (e *Export) waitForReaders(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		e.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the readers: %w", ctx.Err())
	}
}

// notMounted says that somebody else, or an earlier Close, has unmounted.
func notMounted(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) }

func (e *Export) closeFiles() {
	for _, fd := range e.files {
		_ = unix.Close(fd)
	}
	e.files = nil
}

// push gives a slot back.
func (e *Export) push(s *slot) {
	e.mu.Lock()
	s.next = e.free
	e.free = s
	e.mu.Unlock()
	e.freed.Signal()
}

// pop takes a slot, waiting for one if asked to; nil if there is none, and when the Export ends.
func (e *Export) pop(block bool) *slot {
	e.mu.Lock()
	defer e.mu.Unlock()
	for block && e.free == nil && !e.ended {
		e.freed.Wait()
	}
	if e.free == nil || e.ended {
		return nil
	}
	s := e.free
	e.free, s.next = s.next, nil
	return s
}

// buffer gets memory, waiting while the Backend's limit is reached; nil when the Export ends.
func (e *Export) buffer(size int) attach.Buffer {
	if b := e.backend.Buffer(size); b != nil {
		return b
	}
	// What was submitted may be all that holds the memory.
	e.backend.Kick()
	var got attach.Buffer
	_ = wait.PollUntilContextCancel(e.ctx, bufferRetry, false, func(context.Context) (bool, error) {
		got = e.backend.Buffer(size)
		return got != nil, nil
	})
	return got
}
