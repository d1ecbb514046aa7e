package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// poll is how often a wait looks; frozenWithin bounds the wait for the freezer, goneWithin that for the dead.
	poll         = 20 * time.Millisecond
	frozenWithin = time.Second
	goneWithin   = 20 * time.Second
)

// Group is a control group by its path, in each hierarchy.
type Group struct {
	// path begins with a slash, as kubelet's cgroupRoot wants it.
	path string
	// roots are the hierarchies in use, others those that programs may have used besides: a version 1 host can have
	// version 2 mounted as well.
	roots, others []string
	// unified is true on a version 2 host.
	unified bool
}

// Find makes a Group of a path, which need not exist.
func Find(path string) (Group, error) {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return Group{}, fmt.Errorf("read mounts: %w", err)
	}
	roots, others, unified := hierarchies(string(mounts))
	if len(roots) == 0 {
		return Group{}, errors.New("find control groups: no file system of type cgroup or cgroup2 is mounted; mount one")
	}
	return Group{path: filepath.Join("/", path), roots: roots, others: others, unified: unified}, nil
}

// hierarchies are where version 1 is mounted, or else version 2.
func hierarchies(mounts string) (roots, others []string, unified bool) {
	var second []string
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		switch fields[2] {
		case "cgroup":
			roots = append(roots, fields[1])
		case "cgroup2":
			second = append(second, fields[1])
		}
	}
	if len(roots) > 0 {
		return roots, second, false
	}
	return second[:min(1, len(second))], nil, true
}

// Path is what kubelet calls cgroupRoot.
func (g Group) Path() string { return g.path }

// Child is a Group below this one.
func (g Group) Child(name string) Group {
	g.path = filepath.Join(g.path, name)
	return g
}

// in are the Group's directories, one for each hierarchy.
func (g Group) in(roots []string) []string {
	all := make([]string, 0, len(roots))
	for _, root := range roots {
		all = append(all, root+g.path)
	}
	return all
}

// Make makes the Group and what is above it.
func (g Group) Make() error {
	parts := strings.Split(strings.Trim(g.path, "/"), "/")
	for _, root := range g.roots {
		dir := root
		for _, part := range parts {
			if g.unified {
				enable(dir)
			}
			dir = filepath.Join(dir, part)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make control group: %w", err)
			}
			if err := inheritCpuset(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// enable gives the children of a version 2 group all controllers that there are. One that cannot be given is for the
// kubelet to miss; it says which.
func enable(dir string) {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return
	}
	for name := range strings.FieldsSeq(string(controllers)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0)
	}
}

// inheritCpuset copies the parent's processors and memory, without which a version 1 cpuset takes no process.
func inheritCpuset(dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.TrimSpace(string(own)) != "" {
			continue // no cpuset hierarchy, or set already
		}
		parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return fmt.Errorf("read cpuset: %w", err)
		}
		if len(strings.TrimSpace(string(parent))) == 0 {
			continue // version 2 inherits an empty one
		}
		if err := os.WriteFile(filepath.Join(dir, name), parent, 0); err != nil {
			return fmt.Errorf("set cpuset: %w", err)
		}
	}
	return nil
}

// Entering is a command line which joins the Group and then becomes argv, with the same pid.
func (g Group) Entering(argv ...string) []string {
	files := make([]string, 0, len(g.roots))
	for _, dir := range g.in(g.roots) {
		files = append(files, filepath.Join(dir, "cgroup.procs"))
	}
	script := `for f in ` + strings.Join(files, " ") + `; do echo $$ > "$f" || exit 125; done; exec "$@"`
	return append([]string{"/bin/sh", "-c", script, "sh"}, argv...)
}

// Pids are the processes in the Group and below it, each once.
func (g Group) Pids() ([]int, error) {
	found := map[int]bool{}
	for _, dir := range g.in(slices.Concat(g.roots, g.others)) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went meanwhile
			}
			if err != nil || !d.IsDir() {
				return err
			}
			return addPids(filepath.Join(path, "cgroup.procs"), found)
		})
		if err != nil {
			return nil, fmt.Errorf("list processes of %s: %w", g.path, err)
		}
	}
	all := make([]int, 0, len(found))
	for pid := range found {
		all = append(all, pid)
	}
	slices.Sort(all)
	return all, nil
}

func addPids(path string, found map[int]bool) error {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil || pid == 0 {
			continue // of another pid namespace
		}
		found[pid] = true
	}
	if err := lines.Err(); err != nil && !errors.Is(err, unix.ENODEV) { // ENODEV: it went while we read
		return err
	}
	return nil
}

// Kill ends every process in the Group at once and waits until none is left.
func (g Group) Kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, goneWithin)
	defer cancel()
	for {
		pids, err := g.Pids()
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		g.strike(ctx)
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill %s: these do not end: %s", g.path, describe(pids))
		case <-time.After(poll):
		}
	}
}

// strike freezes, signals and thaws once. The caller looks at what is left and repeats.
func (g Group) strike(ctx context.Context) {
	if g.unified {
		_ = os.WriteFile(filepath.Join(g.in(g.roots)[0], "cgroup.kill"), []byte("1"), 0)
		return
	}
	freezer := g.freezer()
	if freezer != "" && os.WriteFile(freezer, []byte("FROZEN"), 0) == nil {
		awaitFrozen(ctx, freezer)
	}
	// What is not found now is found by the next round.
	pids, _ := g.Pids()
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if freezer != "" {
		_ = os.WriteFile(freezer, []byte("THAWED"), 0)
	}
}

// freezer is the file that freezes the Group, empty if the host has none.
func (g Group) freezer() string {
	for _, dir := range g.in(g.roots) {
		file := filepath.Join(dir, "freezer.state")
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// awaitFrozen waits a while: a process within a system call that never returns cannot be frozen, but killed.
func awaitFrozen(ctx context.Context, freezer string) {
	ctx, cancel := context.WithTimeout(ctx, frozenWithin)
	defer cancel()
	for {
		state, err := os.ReadFile(freezer)
		if err != nil || strings.TrimSpace(string(state)) == "FROZEN" {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(poll / 4):
		}
	}
}

// describe names processes for an error message.
func describe(pids []int) string {
	const named = 5
	var text []string
	for _, pid := range pids[:min(len(pids), named)] {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// pid (comm) state ...
		if end := strings.LastIndexByte(string(stat), ')'); end > 0 && len(stat) > end+2 {
			text = append(text, string(stat[:end+3]))
		}
	}
	return fmt.Sprintf("%d processes, %s", len(pids), strings.Join(text, ", "))
}

// Remove removes the Group and everything below it; there must be no process in it.
func (g Group) Remove() error {
	var failed []error
	for _, dir := range g.in(slices.Concat(g.roots, g.others)) {
		failed = append(failed, removeTree(dir))
	}
	return errors.Join(failed...)
}

// removeTree removes directories, deepest first. The kernel may need a moment after the last process.
func removeTree(dir string) error {
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("list control groups: %w", err)
	}
	const attempts = 50
	for _, path := range slices.Backward(all) {
		for attempt := 1; ; attempt++ {
			err := unix.Rmdir(path)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) || attempt == attempts {
				return fmt.Errorf("remove control group %s: %w", path, err)
			}
			time.Sleep(poll)
		}
	}
	return nil
}
