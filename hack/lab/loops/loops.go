package loops

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Device is a loop device that is attached.
type Device struct {
	Number int
	// Backing is the path of the file behind it, as it was seen where it was attached.
	Backing string
	// Name is what whoever attached it wrote into its name field; as a rule the path of the file.
	Name string
	// FileSystem and Inode are the file's; Behind is the device if the file is one, otherwise 0. All are 0 if the file
	// system is dead and does not tell.
	FileSystem, Inode, Behind uint64
}

// Path is the device's node.
func (d Device) Path() string { return "/dev/loop" + strconv.Itoa(d.Number) }

// number is what Behind has if this device is behind another.
func (d Device) number() uint64 {
	const major = 7
	return unix.Mkdev(major, uint32(d.Number))
}

// List finds all attached loop devices.
func List() ([]Device, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var all []Device
	for _, file := range files {
		backing, err := os.ReadFile(file)
		if err != nil {
			continue // detached meanwhile
		}
		name := filepath.Base(filepath.Dir(filepath.Dir(file)))
		number, err := strconv.Atoi(strings.TrimPrefix(name, "loop"))
		if err != nil {
			continue
		}
		d := Device{Number: number, Backing: strings.TrimSpace(string(backing))}
		d.ask()
		all = append(all, d)
	}
	return all, nil
}

// ask gets what the kernel knows about the file.
func (d *Device) ask() {
	fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	if info, err := unix.IoctlLoopGetStatus64(fd); err == nil {
		d.FileSystem, d.Inode, d.Behind = info.Device, info.Inode, info.Rdevice
		d.Name = unix.ByteSliceToString(info.File_name[:])
	}
}

// Detach frees the device; if somebody has it open, the last to close it does.
func (d Device) Detach() error {
	fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", d.Path(), err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", d.Path(), err)
	}
	return nil
}

// Owner is the evidence about a machine.
type Owner struct {
	// FileSystems are those that only this machine mounts.
	FileSystems map[uint64]bool
	// Root is where its files are seen by us: file /x of the machine is Root/x.
	Root string
	// Mark begins the names of its initiator's devices; empty if it has none.
	Mark string
}

// initiators' devices have names that begin with this, and then with an identity that each initiator of this host has
// drawn; see csi/attach/loop.
const initiators = "shale:"

// MarkOf is the Mark of an initiator with an identity.
func MarkOf(identity string) string { return initiators + identity + ":" }

// Of are the devices that belong to the owner, those on top of others first, which is the order to detach them in.
func (o Owner) Of(all []Device) []Device {
	return withBehind(all, func(d Device) bool {
		return o.FileSystems[d.FileSystem] || sameFile(filepath.Join(o.Root, d.Backing), d) ||
			o.Mark != "" && strings.HasPrefix(d.Name, o.Mark)
	})
}

// Orphans are the devices on file systems that are not in mounted, those on top of others first. Those of initiators
// are none: nobody mounts what is behind them while they are in use, and their Owner has the Mark.
func Orphans(all []Device, mounted map[uint64]bool) []Device {
	return withBehind(all, func(d Device) bool {
		return (d.FileSystem == 0 || !mounted[d.FileSystem]) && !strings.HasPrefix(d.Name, initiators)
	})
}

// withBehind are the devices that match, and those that have one of them behind.
func withBehind(all []Device, match func(Device) bool) []Device {
	var found []Device
	taken := map[uint64]bool{}
	for _, d := range all {
		if match(d) {
			found = append(found, d)
			taken[d.number()] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, d := range all {
			if !taken[d.number()] && taken[d.Behind] {
				found = append([]Device{d}, found...)
				taken[d.number()] = true
				grown = true
			}
		}
	}
	return found
}

// sameFile reports whether path is the device's file.
func sameFile(path string, d Device) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Dev == d.FileSystem && st.Ino == d.Inode
}

// MountedBy are the file systems in the mount tables of the processes. A process that is gone has none.
func MountedBy(pids []int) map[uint64]bool {
	all := map[uint64]bool{}
	seen := map[string]bool{}
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		ns, err := os.Readlink(dir + "/ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		addMounted(dir+"/mountinfo", all)
	}
	return all
}

func addMounted(table string, all map[uint64]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if dev, ok := fileSystem(lines.Text()); ok {
			all[dev] = true
		}
	}
}

// fileSystem reads the third field of a line of mountinfo, MAJOR:MINOR.
func fileSystem(line string) (uint64, bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return 0, false
	}
	var major, minor uint32
	if n, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); n != 2 || err != nil {
		return 0, false
	}
	return unix.Mkdev(major, minor), true
}

// Everyone are all processes of this host, for MountedBy.
func Everyone() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
