package setup

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/buffer"
)

const (
	// poolLeast and poolMost bound the memory for data on its way, in bytes; between them it is a poolShare-th of the
	// machine's. More does not help: the Devices' queues are full long before.
	poolLeast = 32 << 20
	poolMost  = 128 << 20
	poolShare = 32
	// poolFloor is the least that somebody may ask for: requests of 1 MiB, one for a client and one for a storenode, need
	// as much to be free besides (shard.Host).
	poolFloor = 4 << 20
	// heapPercent of the memory that the process may use, less the pool, is where the collector begins to work against
	// the heap's growth; heapLeast bytes at least. The rest is for stacks and buffers that are not heap.
	heapPercent = 90
	heapLeast   = 128 << 20
)

// poolSize is how much memory data on its way may take; mib overrides it, unless it is 0.
func poolSize(mib int) (int, error) {
	switch {
	case mib == 0:
		return min(max(machineMemory()/poolShare, poolLeast), poolMost), nil
	case mib < poolFloor>>20:
		return 0, fmt.Errorf("read flags: --memory-mib is %d: it must be 0 or at least %d", mib, poolFloor>>20)
	}
	return mib << 20, nil
}

// limitHeap tells the collector how much memory there is, unless GOMEMLIMIT does.
func limitHeap(p *buffer.Pool) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	_, pool := p.Use()
	debug.SetMemoryLimit(int64(heapLimit(usableMemory("/"), pool)))
}

// heapLimit is near what the process may use, because what is needed must not reach it: the collector would run
// without pause then, and below it the limit changes nothing. Most of the heap are the Extents' checksums, which are
// all needed: 1 GiB for each TiB of data.
func heapLimit(memory, pool int) int { return max(memory/100*heapPercent-pool, heapLeast) }

// usableMemory is the machine's, or what the cgroups of this process allow if that is less.
func usableMemory(root string) int {
	usable := machineMemory()
	groups := filepath.Join(root, "sys/fs/cgroup")
	for dir := filepath.Join(groups, ownGroup(root)); ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "memory.max"))
		if limit, bad := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bad == nil { // or it says "max"
			usable = min(usable, limit)
		}
		if len(dir) <= len(groups) {
			return usable
		}
	}
}

// ownGroup is the path of this process's cgroup, of version 2; in a container's namespace that is the root.
func ownGroup(root string) string {
	text, _ := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Join("/", strings.TrimSpace(path))
		}
	}
	return "/"
}

func machineMemory() int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0 // then the least
	}
	return int(info.Totalram) * int(info.Unit)
}
