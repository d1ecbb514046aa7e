package images

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/shale-storage/shale/hack/child"
)

// suite is the Debian release, basePackages what is in the base besides Debian's essential packages: what the node
// target of the Dockerfile would install.
const suite = "bookworm"

var (
	basePackages = []string{"e2fsprogs", "xfsprogs", "util-linux", "mount"}
	// mergedUsr is a package without content that stands for usrmerge, which would bring the whole of Perl.
	mergedUsr = "usr-is-merged"
	// leftOut keeps the base small: nobody reads manuals in a container, and only xfs_scrub compares names by Unicode's
	// rules.
	leftOut = []string{
		"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
		"/usr/lib/*/libicudata.so*", "/usr/lib/*/gconv/*",
	}
)

// base is the file system that a public base image would be elsewhere.
type base struct {
	key, tar, dir string
}

func newBase(dir string) base {
	hash := sha256.Sum256([]byte(strings.Join(append(mmdebstrap("x"), suite), " ")))
	key := hex.EncodeToString(hash[:])[:16]
	return base{key: key, dir: dir, tar: filepath.Join(dir, "base-"+key+".tar")}
}

// mmdebstrap is the command line that makes the base.
func mmdebstrap(target string) []string {
	argv := []string{
		"mmdebstrap", "--variant=essential", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
		"--include=" + strings.Join(append([]string{mergedUsr}, basePackages...), ","),
	}
	for _, path := range leftOut {
		argv = append(argv, "--dpkgopt=path-exclude="+path)
	}
	return append(argv, "--format=tar", suite, target)
}

// ensure makes the base unless the cache has it.
func (b base) ensure(ctx context.Context) error {
	if _, err := os.Stat(b.tar); err == nil {
		return nil
	}
	began := time.Now()
	slog.Info("Making base image from Debian packages", "suite", suite, "packages", strings.Join(basePackages, " "))
	part := b.tar + ".part"
	argv := mmdebstrap(part)
	cmd := child.Command(ctx, argv[0], argv[1:]...)
	if err := cmdWithProgress(cmd); err != nil {
		return fmt.Errorf("make base image: %w", err)
	}
	if err := os.Rename(part, b.tar); err != nil {
		return fmt.Errorf("keep base image: %w", err)
	}
	slog.Info("Made base image", "seconds", int(time.Since(began).Seconds()))
	return nil
}

// cmdWithProgress runs a command, logs its lines of progress ("I: …") and puts the last lines in the error.
func cmdWithProgress(cmd *exec.Cmd) error {
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Args[0], err)
	}
	const kept = 15
	var last []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if said, ok := strings.CutPrefix(lines.Text(), "I: "); ok {
			slog.Info("  " + cmd.Args[0] + ": " + said)
		}
		last = append(last, lines.Text())
		last = last[max(0, len(last)-kept):]
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", cmd.Args[0], err, strings.Join(last, "\n"))
	}
	return nil
}
