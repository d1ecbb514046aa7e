package setup

import (
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/buffer"
)

const (
	// poolLeast and poolMost bound the memory for data on its way, in bytes; between them it is a poolShare-th of the
	// machine's. More does not help: the Devices' queues are full long before.
	poolLeast = 32 << 20
	poolMost  = 128 << 20
	poolShare = 32
	// heapLeast and heapShare: below that much heap, in bytes or as a part of the machine's memory, the collector has no
	// reason to hurry. The Extents' checksums are most of it: 1 GiB for each TiB of data.
	heapLeast = 128 << 20
	heapShare = 4
)

// poolSize is how much memory data on its way may take; mib overrides it.
func poolSize(mib int) int {
	if mib > 0 {
		return max(mib<<20, buffer.MaxSize)
	}
	return min(max(machineMemory()/poolShare, poolLeast), poolMost)
}

// limitHeap tells the collector how much memory there is, unless GOMEMLIMIT does.
func limitHeap(p *buffer.Pool) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	_, pool := p.Use()
	debug.SetMemoryLimit(int64(max(machineMemory()/heapShare-pool, heapLeast)))
}

func machineMemory() int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0 // then the least
	}
	return int(info.Totalram) * int(info.Unit)
}
