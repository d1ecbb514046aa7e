package setup

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/agent"
	"github.com/shale-storage/shale/storenode/layout"
)

// probe looks at a candidate and writes nothing.
func probe(path string) (agent.Found, error) {
	found := agent.Found{Content: agent.ContentForeign}
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return found, fmt.Errorf("probe %s: %w", path, err)
	}
	kind := s.Mode & unix.S_IFMT
	if kind != unix.S_IFBLK && kind != unix.S_IFREG {
		found.What = "neither a block device nor a file"
		return found, nil
	}
	if kind == unix.S_IFBLK {
		sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(s.Rdev), unix.Minor(s.Rdev))
		found.Serial, found.Model = attribute(sys, "device/serial"), attribute(sys, "device/model")
		if found.What = users(sys); found.What != "" {
			return found, nil
		}
	}
	f, err := openExclusively(path, kind == unix.S_IFREG)
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EWOULDBLOCK):
		found.What = "something that is in use (mounted, or open in another process)"
		return found, nil
	case err != nil:
		return found, fmt.Errorf("probe %s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	return look(f, found)
}

func openExclusively(path string, file bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if !file {
		return f, nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func look(f *os.File, found agent.Found) (agent.Found, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return found, fmt.Errorf("probe %s: %w", f.Name(), err)
	}
	found.Size = size
	var super layout.Superblock
	content, what, err := layout.Probe(f, size, &super)
	if err != nil {
		return found, fmt.Errorf("probe %s: %w", f.Name(), err)
	}
	found.What = what
	switch content {
	case layout.Empty:
		found.Content = agent.ContentEmpty
	case layout.Ours:
		found.Content, found.UUID, found.Pool = agent.ContentOurs, super.UUID, super.Pool
	case layout.Foreign:
		found.Content = agent.ContentForeign
	case layout.Corrupt:
		found.Content = agent.ContentCorrupt
	}
	return found, nil
}

// users names what lies on a block device by what the kernel shows of it: partitions, and devices made of it.
func users(sys string) string {
	if partitions, _ := filepath.Glob(filepath.Join(sys, "*", "partition")); len(partitions) > 0 {
		return fmt.Sprintf("%d partitions", len(partitions))
	}
	holders, _ := os.ReadDir(filepath.Join(sys, "holders"))
	if len(holders) == 0 {
		return ""
	}
	var names []string
	for _, h := range holders {
		names = append(names, h.Name())
	}
	return "a part of " + strings.Join(names, ", ")
}

// powered names the time for which the Device at path has had its power: the run of the machine, or, for an SSD that
// was plugged in since, that. The kernel numbers block devices as they appear (diskseq), so one that was pulled and put
// back is not taken for one that kept what it had not flushed.
func powered(path string, boot uint64) uint64 {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil || s.Mode&unix.S_IFMT != unix.S_IFBLK {
		return boot
	}
	return since(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(s.Rdev), unix.Minor(s.Rdev)), boot)
}

func since(sys string, boot uint64) uint64 {
	if direct, err := filepath.EvalSymlinks(sys); err == nil {
		sys = direct
	}
	sequence := attribute(sys, "diskseq")
	if sequence == "" {
		sequence = attribute(filepath.Dir(sys), "diskseq") // a partition's disk
	}
	if sequence == "" {
		return boot // a kernel before 5.15
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%x %s", boot, sequence) // never fails
	return h.Sum64()
}

// attribute is a file of sysfs, trimmed; empty if there is none.
func attribute(sys, name string) string {
	text, err := os.ReadFile(filepath.Join(sys, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
