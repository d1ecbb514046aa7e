package mounter

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"
	testingexec "k8s.io/utils/exec/testing"
)

// newDevice is a loop device on a sparse file.
func newDevice(t *testing.T, content []byte) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("no loop devices on this machine: %v", err)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 512<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", path).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return device
}

func mustUnmount(t *testing.T, m *Mounter, target string) {
	t.Helper()
	if err := m.Unmount(target); err != nil {
		t.Errorf("unmount: %v", err)
	}
}

func TestABlankDeviceIsFormattedOnceAndKeepsItsFiles(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if _, err := exec.LookPath("mkfs." + fs); err != nil {
				t.Skipf("not installed: %v", err)
			}
			m, device, target := New(), newDevice(t, nil), filepath.Join(t.TempDir(), "target")
			f := Filesystem{Device: device, Target: target, Type: fs}
			if err := m.MountFilesystem(f); err != nil {
				t.Fatal(err)
			}
			defer mustUnmount(t, m, target)
			if source, err := m.Source(target); source != device || err != nil {
				t.Errorf("source of the mount is %q, %v, want %q", source, err, device)
			}
			if err := os.WriteFile(filepath.Join(target, "kept"), []byte("x"), 0o600); err != nil {
				t.Error(err)
			}
			mustUnmount(t, m, target)
			f.ReadOnly = true
			if err := m.MountFilesystem(f); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(target, "kept")); err != nil {
				t.Errorf("after the second mount: %v", err)
			}
			if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o600); err == nil {
				t.Error("a read-only mount took a file")
			}
		})
	}
}

func TestADeviceThatIsNotBlankIsNeverFormatted(t *testing.T) {
	first, last := make([]byte, 512<<20), make([]byte, 512<<20)
	first[17] = 1
	last[len(last)-1] = 1
	for name, content := range map[string][]byte{"mark at the start": first, "mark at the end": last} {
		m, device := New(), newDevice(t, content)
		err := m.MountFilesystem(Filesystem{Device: device, Target: filepath.Join(t.TempDir(), "target"), Type: "ext4"})
		if !errors.Is(err, ErrNotBlank) {
			t.Errorf("%s: %v, want %v", name, err, ErrNotBlank)
		}
	}
}

func TestAnXFSThatWasNotFinishedIsNeitherMountedNorFormatted(t *testing.T) {
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		t.Skipf("not installed: %v", err)
	}
	m, device := New(), newDevice(t, nil)
	f := Filesystem{Device: device, Target: filepath.Join(t.TempDir(), "target"), Type: "xfs"}
	if err := m.MountFilesystem(f); err != nil {
		t.Fatal(err)
	}
	mustUnmount(t, m, f.Target)
	// As mkfs.xfs leaves it when it is killed.
	before := mark(t, device, xfsInProgress, 1)
	if err := m.MountFilesystem(f); !errors.Is(err, ErrUnfinished) {
		t.Errorf("in progress: %v, want %v", err, ErrUnfinished)
	}
	if at := mark(t, device, xfsInProgress, before); at != 1 {
		t.Errorf("the mark has become %d", at)
	}
	if err := m.MountFilesystem(f); err != nil {
		t.Errorf("finished: %v", err)
	}
	mustUnmount(t, m, f.Target)
}

// mark writes a byte to the device and tells what was there.
func mark(t *testing.T, device string, offset int64, value byte) byte {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	was := make([]byte, 1)
	if _, err := f.ReadAt(was, offset); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{value}, offset); err != nil {
		t.Fatal(err)
	}
	return was[0]
}

func TestADeviceThatCannotBeReadIsAnError(t *testing.T) {
	err := New().MountFilesystem(Filesystem{
		Device: filepath.Join(t.TempDir(), "missing"), Target: filepath.Join(t.TempDir(), "target"), Type: "ext4",
	})
	if err == nil {
		t.Error("a missing device was mounted")
	}
}

func TestAnotherFileSystemIsNotMountedAsTheOneAskedFor(t *testing.T) {
	m, device, target := New(), newDevice(t, nil), filepath.Join(t.TempDir(), "target")
	if err := m.MountFilesystem(Filesystem{Device: device, Target: target, Type: "ext4"}); err != nil {
		t.Fatal(err)
	}
	mustUnmount(t, m, target)
	err := m.MountFilesystem(Filesystem{Device: device, Target: target, Type: "xfs"})
	if !errors.Is(err, ErrFilesystemType) {
		t.Errorf("mount ext4 as xfs: %v, want %v", err, ErrFilesystemType)
	}
}

func TestADeviceIsBoundToAFileAndUnboundTwice(t *testing.T) {
	m, device, target := New(), newDevice(t, nil), filepath.Join(t.TempDir(), "dir", "target")
	if err := m.BindDevice(device, target, []string{"ro"}); err != nil {
		t.Fatal(err)
	}
	if !m.IsSameDevice(device, target) {
		t.Error("the bound file is not the device")
	}
	if readOnly, err := m.IsReadOnly(target); !readOnly || err != nil {
		t.Errorf("bound read-only: %v, %v", readOnly, err)
	}
	if u, err := m.Usage(target); err != nil || !u.Block || u.TotalBytes != 512<<20 {
		t.Errorf("usage %+v, %v", u, err)
	}
	for range 2 {
		mustUnmount(t, m, target)
	}
	if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("target after unmount: %v", err)
	}
}

// halfMounter dies between the two steps of a bind mount with options.
type halfMounter struct{ *mount.FakeMounter }

func (h halfMounter) Mount(source, target, fsType string, _ []string) error {
	return errors.Join(h.FakeMounter.Mount(source, target, fsType, []string{"bind"}), errors.New("cannot remount"))
}

func TestABindThatCannotBeMadeReadOnlyIsTakenBack(t *testing.T) {
	mounts := halfMounter{mount.NewFakeMounter(nil)}
	m := &Mounter{safe: mount.NewSafeFormatAndMount(mounts, nil)}
	target := filepath.Join(t.TempDir(), "target")
	if err := m.BindDirectory(t.TempDir(), target, []string{"ro"}); err == nil || len(mounts.MountPoints) != 0 {
		t.Errorf("%v; mounted is %v", err, mounts.MountPoints)
	}
}

// answers plays programs, in the order in which they are called.
func answers(called *[]string, script ...testingexec.FakeAction) utilexec.Interface {
	fake := &testingexec.FakeExec{}
	for _, answer := range script {
		fake.CommandScript = append(fake.CommandScript, func(name string, args ...string) utilexec.Cmd {
			*called = append(*called, name)
			cmd := &testingexec.FakeCmd{CombinedOutputScript: []testingexec.FakeAction{answer}}
			return testingexec.InitFakeCmd(cmd, name, args...)
		})
	}
	return fake
}

func TestAFileSystemThatWasSeenOnceIsNeverFormatted(t *testing.T) {
	found := func() ([]byte, []byte, error) { return []byte("TYPE=ext4\n"), nil, nil }
	ends := func(status int) testingexec.FakeAction {
		return func() ([]byte, []byte, error) { return nil, nil, &testingexec.FakeExitError{Status: status} }
	}
	const nothingFound = 2
	for name, tc := range map[string]struct {
		second testingexec.FakeAction
		wrong  bool
	}{
		"the device fails after the first look":     {ends(nothingFound), false},
		"fsck leaves errors":                        {ends(4), true},
		"fsck leaves errors and has corrected some": {ends(5), true},
	} {
		var called []string
		fake := answers(&called, found, tc.second, ends(nothingFound), ends(nothingFound))
		mounts := mount.NewFakeMounter(nil)
		m := &Mounter{safe: mount.NewSafeFormatAndMount(mounts, fake)}
		err := m.MountFilesystem(Filesystem{Device: "/dev/x", Target: filepath.Join(t.TempDir(), "target"), Type: "ext4"})
		if slices.Contains(called, "mkfs.ext4") || (err != nil) != tc.wrong || len(mounts.MountPoints) > 0 == tc.wrong {
			t.Errorf("%s: called %v, mounted %v, %v", name, called, mounts.MountPoints, err)
		}
	}
}
