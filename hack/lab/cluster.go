package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/hack/debian"
	"github.com/shale-storage/shale/hack/images"
	"github.com/shale-storage/shale/hack/lab/cgroup"
	"github.com/shale-storage/shale/hack/lab/loops"
	"github.com/shale-storage/shale/hack/toolbox"
	"github.com/shale-storage/shale/hack/turn"
)

// Cluster is a lab that is up, or was.
type Cluster struct {
	Dir string

	log    *slog.Logger
	store  *store
	group  cgroup.Group
	nodes  []*Node
	client *http.Client
	// turn is that of the directory, while the command that made the lab uses it.
	turn *turn.Turn
}

// Up makes a lab and waits until its nodes are ready. A lab that is already there, whole or not, is ended first, once
// the command that made it has ended.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("make lab: this needs root, for namespaces, mounts and control groups")
	}
	if err := debian.Need(ctx, programs()...); err != nil {
		return nil, err
	}
	box, err := toolbox.Build(ctx, "lab", "cni", "helm")
	if err != nil {
		return nil, err
	}
	pause, err := images.Build(ctx, "pause")
	if err != nil {
		return nil, err
	}
	o.Images = append(images.Archives(pause), o.Images...)
	mine, err := take(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	c, err := up(ctx, o, box)
	if err != nil {
		mine.Give()
		return nil, err
	}
	c.turn = mine
	return c, nil
}

// take waits until no other command uses the directory.
func take(ctx context.Context, dir string) (*turn.Turn, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("make directory for lab: %w", err)
	}
	return turn.Take(ctx, dir+".lock")
}

// up is Up when it is our turn and all programs are there.
func up(ctx context.Context, o Options, box toolbox.Box) (*Cluster, error) {
	began := time.Now()
	if _, err := loadState(o.Dir); !errors.Is(err, os.ErrNotExist) {
		slog.Warn("Ending the lab that an earlier command left", "dir", o.Dir) // whatever o.Log is: somebody may miss it
	}
	if err := down(ctx, o.Dir, o.Log); err != nil {
		return nil, fmt.Errorf("end what was left of an earlier lab: %w", err)
	}
	c, err := create(o, box)
	if err != nil {
		return nil, err
	}
	if err := c.start(ctx, o.Images); err != nil {
		// The logs stay for the reader of the error; the next Up or Down removes them.
		return nil, errors.Join(err, c.stop(withoutCancel(ctx)))
	}
	o.Log.Info("Lab is up", "dir", c.Dir, "nodes", len(c.nodes), "seconds", seconds(began))
	return c, nil
}

// create makes the directory with certificates and state.
func create(o Options, box toolbox.Box) (*Cluster, error) {
	if err := claim(o.Dir); err != nil {
		return nil, err
	}
	before, err := loops.List()
	if err != nil {
		return nil, err
	}
	s := &store{path: filepath.Join(o.Dir, stateFile)}
	err = s.change(func(st *state) {
		*st = state{
			Nodes: o.Nodes, SSDSize: o.SSDSize, Holders: map[string]int{}, Bin: filepath.Dir(box.Path("kubelet")),
			CNI: filepath.Dir(box.Path("bridge")), Helm: box.Path("helm"),
		}
		for _, d := range before {
			st.Loops = append(st.Loops, loopKey(d))
		}
	})
	if err != nil {
		return nil, err
	}
	if err := checkDirectIO(o.Dir); err != nil {
		return nil, err
	}
	if err := issue(filepath.Join(o.Dir, "pki"), o.Nodes); err != nil {
		return nil, err
	}
	return assemble(o.Dir, s, o.Log)
}

// Open finds a lab that is up.
func Open(dir string, log *slog.Logger) (*Cluster, error) {
	o := Options{Dir: dir, Log: log}
	if err := o.complete(); err != nil {
		return nil, err
	}
	s, err := loadState(o.Dir)
	if err != nil {
		return nil, err
	}
	return assemble(o.Dir, s, o.Log)
}

func assemble(dir string, s *store, log *slog.Logger) (*Cluster, error) {
	group, err := cgroup.Find(groupName(dir))
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, log: log, store: s, group: group}
	for i := range s.read().Nodes {
		c.nodes = append(c.nodes, &Node{Name: nodeName(i + 1), Index: i + 1, cluster: c})
	}
	c.client = c.newClient()
	for _, machine := range append([]string{controlPlane}, c.NodeNames()...) {
		if err := os.MkdirAll(c.logDir(machine), 0o755); err != nil {
			return nil, fmt.Errorf("make directory for logs: %w", err)
		}
	}
	return c, nil
}

// start brings everything up: the control plane and the nodes' containerds side by side, then the kubelets.
func (c *Cluster) start(ctx context.Context, archives []string) error {
	if _, err := c.newSpace(ctx, controlPlane); err != nil {
		return err
	}
	if err := c.setUpBridge(ctx); err != nil {
		return err
	}
	if err := c.forward(ctx, controlPlane); err != nil {
		return err
	}
	tasks := []func() error{func() error { return c.startControlPlane(ctx) }}
	for _, n := range c.nodes {
		tasks = append(tasks, func() error { return n.start(ctx) })
	}
	if err := errors.Join(inParallel(tasks...)...); err != nil {
		return err
	}
	tasks = nil
	for _, n := range c.nodes {
		tasks = append(tasks,
			func() error { return n.startKubelet(ctx) },
			func() error { return n.load(ctx, archives) })
	}
	return errors.Join(inParallel(tasks...)...)
}

// Nodes are all nodes, in order of their names.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// NodeNames are their names.
func (c *Cluster) NodeNames() []string {
	names := make([]string, 0, len(c.nodes))
	for _, n := range c.nodes {
		names = append(names, n.Name)
	}
	return names
}

// Node finds a node by name.
func (c *Cluster) Node(name string) (*Node, error) {
	for _, n := range c.nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("find node %q: the lab has %s", name, strings.Join(c.NodeNames(), ", "))
}

func (c *Cluster) bin(name string) string { return filepath.Join(c.store.read().Bin, name) }

// pki is the path of a certificate, or of their directory.
func (c *Cluster) pki(name string) string { return filepath.Join(c.Dir, "pki", name) }

func (c *Cluster) logDir(machine string) string { return filepath.Join(c.Dir, "log", machine) }

func loopKey(d loops.Device) string { return d.Path() + " " + d.Backing }

// Down ends the lab that Up made, and removes every trace of it.
func (c *Cluster) Down(ctx context.Context) error {
	defer c.turn.Give()
	return down(ctx, c.Dir, c.log)
}

// Down ends the lab in dir, whatever state it is in, and removes every trace. Without a lab it does nothing. While the
// command that made the lab uses it, Down waits.
func Down(ctx context.Context, dir string, log *slog.Logger) error {
	o := Options{Dir: dir, Log: log}
	if err := o.complete(); err != nil {
		return err
	}
	if _, err := os.Stat(o.Dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	mine, err := take(ctx, o.Dir)
	if err != nil {
		return err
	}
	defer mine.Give()
	return down(ctx, o.Dir, o.Log)
}

// down is Down when it is our turn.
func down(ctx context.Context, dir string, log *slog.Logger) error {
	c, err := Open(dir, log)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.stop(ctx); err != nil {
		return fmt.Errorf("end lab: %w", err)
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return fmt.Errorf("remove lab directory: %w", err)
	}
	c.log.Info("Lab is down", "dir", c.Dir, "seconds", seconds(began))
	return nil
}

// stop ends all processes, frees loop devices and control groups, and keeps the directory.
func (c *Cluster) stop(ctx context.Context) error {
	owned := make([]ownLoops, 0, len(c.nodes))
	for _, n := range c.nodes {
		own, err := n.loops()
		if err != nil {
			return err
		}
		owned = append(owned, own)
	}
	if err := c.group.Kill(ctx); err != nil {
		return err
	}
	failed := []error{c.detachLoops(owned), c.group.Remove(), c.unmount()}
	return errors.Join(failed...)
}

// detachLoops frees the nodes' loop devices, and then orphans that came since the lab was made.
func (c *Cluster) detachLoops(owned []ownLoops) error {
	var failed []error
	for _, own := range owned {
		failed = append(failed, own.detach())
	}
	before := map[string]bool{}
	for _, key := range c.store.read().Loops {
		before[key] = true
	}
	all, err := loops.List()
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	var since []loops.Device
	for _, d := range all {
		if !before[loopKey(d)] {
			since = append(since, d)
		}
	}
	failed = append(failed, detachAll(loops.Orphans(since, loops.MountedBy(loops.Everyone()))))
	return errors.Join(failed...)
}

// unmount unmounts what lies below the lab's directory in the host's own view. The lab mounts nothing there; a person
// may have, and would lose what is mounted when the directory is removed.
func (c *Cluster) unmount() error {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var failed []error
	for _, target := range mountsBelow(string(table), c.Dir) {
		if err := unix.Unmount(target, 0); err != nil {
			failed = append(failed, fmt.Errorf("unmount %s: %w", target, err))
		}
	}
	return errors.Join(failed...)
}

// mountsBelow are the mount points below dir in a mount table, the latest first.
func mountsBelow(table, dir string) []string {
	var found []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		target := strings.ReplaceAll(fields[1], `\040`, " ")
		if strings.HasPrefix(target, dir+"/") {
			found = append([]string{target}, found...)
		}
	}
	return found
}
