package loop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/memory"
)

const testSize = 512 << 20

// newFrontend skips where the kernel or the rights for real devices are missing.
func newFrontend(tb testing.TB) *Frontend {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("loop devices and FUSE mounts need root")
	}
	dir := tb.TempDir()
	f, err := New(Options{StateDir: dir, LinkDir: filepath.Join(dir, "links"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	if err := f.Probe(); err != nil {
		tb.Skipf("no loop frontend on this machine: %v", err)
	}
	return f
}

func newMemory(tb testing.TB, size int64) *memory.Backend {
	tb.Helper()
	m, err := memory.New(size)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close() })
	return m
}

func attachMemory(tb testing.TB, f *Frontend, volume string) (*memory.Backend, attach.Device) {
	tb.Helper()
	m := newMemory(tb, testSize)
	d, err := f.Attach(tb.Context(), attach.Spec{Volume: volume, Backend: m})
	if err != nil {
		tb.Fatalf("attach: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := f.Detach(ctx, volume); err != nil {
			tb.Errorf("detach: %v", err)
		}
	})
	return m, d
}

func openDirect(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	command := exec.CommandContext(tb.Context(), name, args...)
	// fio leaves files where it runs.
	command.Dir = tb.TempDir()
	out, err := command.CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestBytesReachTheBackendAndComeBack(t *testing.T) {
	f := newFrontend(t)
	m, d := attachMemory(t, f, "bytes")
	fd := openDirect(t, d.Path)
	for _, size := range []int{4 << 10, 16 << 10, 20 << 10, 1 << 20, 2 << 20} {
		// Direct I/O wants aligned memory, as mmap gives.
		block, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			t.Fatal(err)
		}
		for i := range block {
			block[i] = byte(rand.Uint32())
		}
		want := bytes.Clone(block)
		offset := int64(8<<20 + 4096)
		if n, err := unix.Pwrite(fd, block, offset); n != size || err != nil {
			t.Fatalf("write %d bytes: %d, %v", size, n, err)
		}
		if !bytes.Equal(m.Bytes()[offset:offset+int64(size)], want) {
			t.Errorf("%d bytes written, the backend has others", size)
		}
		clear(block)
		if n, err := unix.Pread(fd, block, offset); n != size || err != nil {
			t.Fatalf("read %d bytes: %d, %v", size, n, err)
		}
		if !bytes.Equal(block, want) {
			t.Errorf("%d bytes read are not those written", size)
		}
		_ = unix.Munmap(block)
	}
}

func TestLargeIOFromTheMiddleOfAPageReachesTheBackend(t *testing.T) {
	f := newFrontend(t)
	m, d := attachMemory(t, f, "unaligned")
	if text, err := os.ReadFile(f.get("unaligned").device.limitPath()); err != nil || string(text) != "512\n" {
		t.Errorf("requests go up to %q KiB (%v), want %d", text, err, maxRequest)
	}
	fd := openDirect(t, d.Path)
	// A huge page is one segment; without one the kernel's own limit of segments hides the fault.
	const huge, size = 2 << 20, 1 << 20
	pages, err := unix.Mmap(-1, 0, 2*huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(pages) }()
	if err := unix.Madvise(pages, unix.MADV_HUGEPAGE); err != nil {
		t.Logf("no huge pages: %v", err)
	}
	first := huge - int(uintptr(unsafe.Pointer(&pages[0]))%huge)
	if _, err := unix.Pwrite(fd, pages[first+512:][:attach.BlockSize], 0); errors.Is(err, unix.EINVAL) {
		t.Skip("this kernel takes no direct I/O from memory that does not begin with a page")
	}
	for _, at := range []int{512, 2048, 3584} {
		block := pages[first+at:][:size]
		for i := range block {
			block[i] = byte(rand.Uint32())
		}
		want := bytes.Clone(block)
		n, err := unix.Pwrite(fd, block, 0)
		if n != size || err != nil || !bytes.Equal(m.Bytes()[:size], want) {
			t.Errorf("write from %d on: %d, %v; or other bytes", at, n, err)
		}
		clear(block)
		if n, err := unix.Pread(fd, block, 0); n != size || err != nil || !bytes.Equal(block, want) {
			t.Errorf("read from %d on: %d, %v; or other bytes", at, n, err)
		}
	}
}

func TestFlushDiscardAndZeroesReachTheBackend(t *testing.T) {
	f := newFrontend(t)
	m, d := attachMemory(t, f, "control")
	fd := openDirect(t, d.Path)
	for i := range m.Bytes()[:4<<20] {
		m.Bytes()[i] = 1
	}
	flushes := m.Count(attach.OpFlush)
	if err := unix.Fsync(fd); err != nil {
		t.Fatalf("fsync: %v", err)
	}
	if got := m.Count(attach.OpFlush); got != flushes+1 {
		t.Errorf("one fsync made %d flushes", got-flushes)
	}
	run(t, "blkdiscard", "-o", "0", "-l", "1048576", d.Path)
	if m.Count(attach.OpDiscard) == 0 {
		t.Error("a discard did not reach the backend")
	}
	run(t, "blkdiscard", "-z", "-o", "1048576", "-l", "1048576", d.Path)
	if m.Count(attach.OpWriteZeroes) == 0 || m.Count(attach.OpWrite) > 0 {
		t.Errorf("zeros reached the backend as %d requests to write zeros and %d writes",
			m.Count(attach.OpWriteZeroes), m.Count(attach.OpWrite))
	}
	if !bytes.Equal(m.Bytes()[:2<<20], make([]byte, 2<<20)) {
		t.Error("discarded or zeroed bytes are not zero")
	}
	if m.Bytes()[2<<20] != 1 {
		t.Error("a discard went too far")
	}
}

// TestAWriteThatMustLastIsFlushed: what was written with FUA is on the medium when it is answered.
func TestAWriteThatMustLastIsFlushed(t *testing.T) {
	f := newFrontend(t)
	m, d := attachMemory(t, f, "fua")
	fd := openDirect(t, d.Path)
	block, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[int]bool{0: false, unix.RWF_DSYNC: true} {
		flushes := m.Count(attach.OpFlush)
		if n, err := unix.Pwritev2(fd, [][]byte{block}, 0, flags); n != len(block) || err != nil {
			t.Fatalf("write with flags %#x: %d, %v", flags, n, err)
		}
		if made := m.Count(attach.OpFlush) - flushes; made > 0 != want {
			t.Errorf("a write with flags %#x made %d flushes", flags, made)
		}
	}
}

func TestABackendErrorReachesTheApplication(t *testing.T) {
	f := newFrontend(t)
	m, d := attachMemory(t, f, "errors")
	fd := openDirect(t, d.Path)
	block, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	for fail, want := range map[error]error{attach.ErrNoSpace: unix.ENOSPC, errors.New("fenced"): unix.EIO} {
		m.Fail(fail)
		// The loop driver reports every failed direct write as an I/O error, so ENOSPC may arrive as EIO.
		if _, err := unix.Pwrite(fd, block, 0); !errors.Is(err, want) && !errors.Is(err, unix.EIO) {
			t.Errorf("write with a backend that fails with %q: %v, want %v", fail, err, want)
		}
	}
	m.Fail(nil)
	if _, err := unix.Pwrite(fd, block, 0); err != nil {
		t.Errorf("write after the backend has recovered: %v", err)
	}
}

func TestFileSystemsSurviveAnUnmountAndAnAttachAnew(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if _, err := exec.LookPath("mkfs." + fs); err != nil {
				t.Skipf("not installed: %v", err)
			}
			f := newFrontend(t)
			m := newMemory(t, testSize)
			dir := t.TempDir()
			content := bytes.Repeat([]byte("shale"), 100_000)
			inMount(t, f, m, func(d attach.Device) {
				run(t, "mkfs."+fs, d.Path)
				run(t, "mount", d.Path, dir)
				if err := os.WriteFile(filepath.Join(dir, "file"), content, 0o600); err != nil {
					t.Error(err)
				}
				run(t, "umount", dir)
			})
			inMount(t, f, m, func(d attach.Device) {
				run(t, "mount", d.Path, dir)
				got, err := os.ReadFile(filepath.Join(dir, "file"))
				run(t, "umount", dir)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("read back %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

// inMount attaches m, calls use and detaches.
func inMount(t *testing.T, f *Frontend, m *memory.Backend, use func(attach.Device)) {
	t.Helper()
	d, err := f.Attach(t.Context(), attach.Spec{Volume: "files", Backend: m})
	if err != nil {
		t.Fatal(err)
	}
	use(d)
	if err := f.Detach(t.Context(), "files"); err != nil {
		t.Fatal(err)
	}
}

func TestADeviceInUseIsNotDetached(t *testing.T) {
	f := newFrontend(t)
	_, d := attachMemory(t, f, "busy")
	claim, err := unix.Open(d.Path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*clearPoll)
	defer cancel()
	if err := f.Detach(ctx, "busy"); !errors.Is(err, attach.ErrBusy) {
		t.Errorf("detach of a claimed device: %v, want %v", err, attach.ErrBusy)
	}
	_ = unix.Close(claim)
	if err := f.Detach(t.Context(), "busy"); err != nil {
		t.Errorf("detach after its release: %v", err)
	}
	if _, err := os.Lstat(d.Link); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("link of a detached device: %v, want none", err)
	}
}

func TestADeviceThatStayedBusyStaysWhenItsOpenerGoes(t *testing.T) {
	f := newFrontend(t)
	_, d := attachMemory(t, f, "opened")
	fd, err := unix.Open(d.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Detach(ctx, "opened"); !errors.Is(err, attach.ErrBusy) {
		t.Fatalf("detach of an open device: %v", err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	a := f.get("opened")
	if bound, err := a.device.isBoundAs(a.name); !bound || err != nil {
		t.Errorf("%s is bound as the volume: %v, %v", d.Path, bound, err)
	}
}

func TestADeviceThatLosetupHasEndedIsGoneEvenIfAnotherVolumeHasItsNumber(t *testing.T) {
	f := newFrontend(t)
	first := attachLost(t, f, "second")
	if err := f.Confirm(first); !errors.Is(err, attach.ErrGone) {
		t.Errorf("bound by another volume: %v, want %v", err, attach.ErrGone)
	}
	if err := f.Confirm("second"); err != nil {
		t.Errorf("the other volume: %v", err)
	}
	// The other volume's file system does not keep the first from being detached.
	openClaimed(t, f.get("second").device.path())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := f.Detach(ctx, first); err != nil {
		t.Errorf("detach: %v", err)
	}
	if err := f.Confirm("second"); err != nil {
		t.Errorf("the other volume after that: %v", err)
	}
}

func TestWhatCannotBeReadIsNotAdopted(t *testing.T) {
	f := newFrontend(t)
	if d, err := f.Adopt("v", attach.Held{State: []byte("garbage")}); !errors.Is(err, attach.ErrUnreadable) {
		t.Errorf("got %+v, %v, want %v", d, err, attach.ErrUnreadable)
	}
}

// attachLost attaches a volume, has losetup end its device, and gives the number to another volume. Processes beside
// this test may be faster with the number; then it tries with the next.
func attachLost(t *testing.T, f *Frontend, other string) (volume string) {
	t.Helper()
	for n := range claimAttempts {
		volume = fmt.Sprintf("lost%d", n)
		_, d := attachMemory(t, f, volume)
		if err := f.Confirm(volume); err != nil {
			t.Fatalf("before: %v", err)
		}
		run(t, "losetup", "--detach", d.Path)
		if err := f.Confirm(volume); !errors.Is(err, attach.ErrGone) {
			t.Errorf("bound no more: %v, want %v", err, attach.ErrGone)
		}
		err := bindAt(t, f, other, f.get(volume).device)
		if err == nil {
			return volume
		}
		if !errors.Is(err, unix.EBUSY) {
			t.Fatal(err)
		}
	}
	t.Fatalf("%d numbers were taken by others meanwhile", claimAttempts)
	return ""
}

// bindAt makes the device with the number d one of the volume, over a plain file.
func bindAt(t *testing.T, f *Frontend, volume string, d device) error {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), volume))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := file.Truncate(1 << 20); err != nil {
		return err
	}
	a := &attachment{device: d, name: f.nameFor(volume)}
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: attach.BlockSize}
	copy(config.Info.File_name[:], a.name)
	if err := d.configure(&config); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := d.clear(a.name, false); err != nil {
			t.Errorf("clear: %v", err)
		}
	})
	f.put(volume, a)
	return nil
}

// openClaimed opens a device as the mount of a file system does, until the test ends.
func openClaimed(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
}

func TestAReadOnlyDeviceRefusesWrites(t *testing.T) {
	f := newFrontend(t)
	d, err := f.Attach(t.Context(), attach.Spec{Volume: "read-only", Backend: newMemory(t, 16<<20), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	// Some kernels refuse the open, others each write.
	if fd, err := unix.Open(d.Path, unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		if n, err := unix.Pwrite(fd, make([]byte, 4096), 0); err == nil {
			t.Errorf("%d bytes written to a read-only device", n)
		}
		_ = unix.Close(fd)
	}
	if err := f.Detach(t.Context(), "read-only"); err != nil {
		t.Fatal(err)
	}
}

func TestCleanUpEndsOnlyItsOwnDevices(t *testing.T) {
	f, other := newFrontend(t), newFrontend(t)
	_, mine := attachMemory(t, f, "mine")
	_, theirs := attachMemory(t, other, "theirs")
	again, err := New(f.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.CleanUp(t.Context()); err != nil {
		t.Fatalf("clean up: %v", err)
	}
	if bound, err := f.get("mine").device.isBoundAs(f.nameFor("mine")); bound || err != nil {
		t.Errorf("%s is still bound after clean-up (%v)", mine.Path, err)
	}
	if bound, err := other.get("theirs").device.isBoundAs(other.nameFor("theirs")); !bound || err != nil {
		t.Errorf("%s of another state directory was cleared (%v)", theirs.Path, err)
	}
}

func TestADataRequestAllocatesNothing(t *testing.T) {
	f := newFrontend(t)
	_, d := attachMemory(t, f, "allocations")
	fd := openDirect(t, d.Path)
	block, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	// Counts what the whole process allocates, so what the reader does too.
	allocations := testing.AllocsPerRun(1000, func() {
		if _, err := unix.Pwrite(fd, block, 0); err != nil {
			t.Error(err)
		}
		if _, err := unix.Pread(fd, block, 0); err != nil {
			t.Error(err)
		}
	})
	if allocations != 0 {
		t.Errorf("a write and a read allocate %v times", allocations)
	}
}

func TestFioVerifiesWhatItWrote(t *testing.T) {
	if _, err := exec.LookPath("fio"); err != nil {
		t.Skipf("not installed: %v", err)
	}
	f := newFrontend(t)
	_, d := attachMemory(t, f, "fio")
	run(t, "fio", "--name=verify", "--filename="+d.Path, "--rw=randwrite", "--bsrange=4k-256k", "--size=64m", "--direct=1",
		"--ioengine=libaio", "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--randrepeat=0")
}
