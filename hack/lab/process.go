package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/hack/lab/cgroup"
)

// Processes are the pids on the node whose program has that name, such as "storenode", and whose arguments have all
// the words.
func (n *Node) Processes(program string, words ...string) ([]int, error) {
	return processes(n.cluster.group.Child(n.Name), program, words)
}

func processes(group cgroup.Group, program string, words []string) ([]int, error) {
	pids, err := group.Pids()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, pid := range pids {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err != nil {
			continue // it has ended
		}
		if isProgram(string(line), program, words) {
			found = append(found, pid)
		}
	}
	return found, nil
}

// isProgram judges a command line as /proc shows it.
func isProgram(line, program string, words []string) bool {
	args := strings.Split(line, "\x00")
	if filepath.Base(args[0]) != program {
		return false
	}
	for _, word := range words {
		if !slices.Contains(args[1:], word) {
			return false
		}
	}
	return true
}

// Kill sends SIGKILL to a process, if it is one of the node's.
func (n *Node) Kill(pid int) error { return n.signal(pid, unix.SIGKILL) }

// Terminate sends SIGTERM, at which a process ends in order.
func (n *Node) Terminate(pid int) error { return n.signal(pid, unix.SIGTERM) }

// Pause makes a process of the node stand still, as a machine does that is starved or migrated; its sockets stay open.
func (n *Node) Pause(pid int) error { return n.signal(pid, unix.SIGSTOP) }

// Resume takes back Pause.
func (n *Node) Resume(pid int) error { return n.signal(pid, unix.SIGCONT) }

// FailWrites makes the kernel refuse a process of the node all writes to files, as an SSD does that has gone read-only
// at the end of its life: EFBIG, from the file system, with nothing written. Only block devices are exempt, and the
// lab's SSDs are files. Nothing but the end of the process takes it back: then it meets an SSD that works.
func (n *Node) FailWrites(pid int) error {
	if err := n.own(pid); err != nil {
		return fmt.Errorf("fail writes of process %d: %w", pid, err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 0, Max: 0}, nil); err != nil {
		return fmt.Errorf("fail writes of process %d of %s: %w", pid, n.Name, err)
	}
	return nil
}

func (n *Node) signal(pid int, s unix.Signal) error {
	if err := n.own(pid); err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(s), pid, err)
	}
	if err := unix.Kill(pid, s); err != nil {
		return fmt.Errorf("send %s to process %d of %s: %w", unix.SignalName(s), pid, n.Name, err)
	}
	return nil
}

// own says whether a process is the node's; nothing else on this machine is ever touched.
func (n *Node) own(pid int) error {
	pids, err := n.cluster.group.Child(n.Name).Pids()
	if err != nil {
		return err
	}
	if !slices.Contains(pids, pid) {
		return fmt.Errorf("it is not one of %s", n.Name)
	}
	return nil
}
