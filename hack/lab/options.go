package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// DefaultDir is where a lab lives unless told otherwise.
	DefaultDir = "/var/tmp/shale-lab"
	// DefaultSSDSize is how large a node's SSD claims to be; it takes what is written.
	DefaultSSDSize = 8 << 30
	// defaultNodes and maxNodes: more do not fit a machine that this is for.
	defaultNodes = 3
	maxNodes     = 9
)

// Options say what lab to make. The zero value is a good one.
type Options struct {
	// Dir has everything; it is made by Up and removed by Down.
	Dir string
	// Nodes is how many, named n1, n2, …
	Nodes int
	// SSDSize is the size of each node's SSD in bytes.
	SSDSize int64
	// Images are archives to import in each node while it starts.
	Images []string
	// Log gets a line for each step.
	Log *slog.Logger
}

func (o *Options) complete() error {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.Nodes == 0 {
		o.Nodes = defaultNodes
	}
	if o.SSDSize == 0 {
		o.SSDSize = DefaultSSDSize
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return fmt.Errorf("make lab of %d nodes: from 1 to %d are possible", o.Nodes, maxNodes)
	}
	abs, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("find lab directory: %w", err)
	}
	o.Dir = abs
	return nil
}

// groupName is the control group of the lab in dir: readable, and different for each directory.
func groupName(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	readable := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-")
	return strings.Trim(readable, "-") + "-" + hex.EncodeToString(sum[:3])
}

// checkDirectIO says whether the nodes' SSDs can live in dir.
func checkDirectIO(dir string) error {
	path := filepath.Join(dir, "direct-io-probe")
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
	_ = os.Remove(path)
	if err != nil {
		return fmt.Errorf("open a file for direct I/O in %s (choose another directory, on ext4 or xfs): %w", dir, err)
	}
	return unix.Close(fd)
}

// programs are the Debian packages with what the lab and its nodes call.
func programs() []string {
	return []string{"iproute2", "util-linux", "mount", "e2fsprogs", "xfsprogs", "libseccomp2"}
}

// withoutCancel is for what must outlive an interrupt: tearing down.
func withoutCancel(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
