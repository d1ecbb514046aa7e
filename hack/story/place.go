package story

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shale-storage/shale/hack/images"
	"github.com/shale-storage/shale/hack/lab"
	"github.com/shale-storage/shale/hack/toolbox"
)

// Namespace of the installation, and name of its release.
const (
	Namespace = "shale-system"
	release   = "shale"
)

// Options say where the story plays.
type Options struct {
	// Dir of the lab.
	Dir string
	// SSDSize of each node; 0 is the lab's default.
	SSDSize int64
	Say     func(format string, args ...any)
	Log     *slog.Logger
}

// Place is the lab with Shale installed.
type Place struct {
	*lab.Cluster
	// Image has the verifier; LogDir, the same directory for every node, takes its logs.
	Image, LogDir string
}

// Start builds what is missing, makes the lab and installs Shale by helm.
func Start(ctx context.Context, o Options) (*Place, error) {
	o.Say("Building images: operator, storenode, csi, sidecars, app")
	built, err := images.Build(ctx)
	if err != nil {
		return nil, err
	}
	app := slices.IndexFunc(built, func(i images.Image) bool { return i.Name == "app" })
	o.Say("Starting a Kubernetes of three nodes")
	c, err := lab.Up(ctx, lab.Options{
		Dir: o.Dir, SSDSize: o.SSDSize, Images: images.Archives(built), Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	p := &Place{Cluster: c, Image: built[app].Ref, LogDir: filepath.Join(c.Dir, "acknowledged")}
	o.Say("helm install shale charts/shale")
	if err := p.install(ctx); err != nil {
		return nil, errors.Join(err, errors.New(p.Diagnose(ctx)), c.Down(context.WithoutCancel(ctx)))
	}
	return p, nil
}

func (p *Place) install(ctx context.Context) error {
	root, err := toolbox.Root(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.LogDir, 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	_, err = p.Helm(ctx, nil, "install", release, filepath.Join(root, "charts", "shale"),
		"--namespace", Namespace, "--create-namespace", "--wait", "--timeout", "120s",
		"--set", "image.pullPolicy=Never", "--set", "storenode.extraArgs={--boot-id-file="+lab.BootID+"}")
	return err
}

// Storenode is the pid of the storenode on a node.
func (p *Place) Storenode(node string) (int, error) {
	n, err := p.Node(node)
	if err != nil {
		return 0, err
	}
	pids, err := n.Processes("storenode")
	if err != nil {
		return 0, err
	}
	if len(pids) != 1 {
		return 0, fmt.Errorf("find storenode of %s: %d processes have that name", node, len(pids))
	}
	return pids[0], nil
}

// Kill ends the storenode of a node by SIGKILL and says which pid it had.
func (p *Place) Kill(node string) (int, error) {
	pid, err := p.Storenode(node)
	if err != nil {
		return 0, err
	}
	n, err := p.Node(node)
	if err != nil {
		return 0, err
	}
	return pid, n.Kill(pid)
}

// Diagnose gathers what a person would look at first after a failure: objects, events, logs of Shale's pods.
func (p *Place) Diagnose(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var all strings.Builder
	look := func(args ...string) []byte {
		out, err := p.Kubectl(ctx, nil, args...)
		fmt.Fprintf(&all, "--- kubectl %s\n%s", strings.Join(args, " "), out)
		if err != nil {
			fmt.Fprintln(&all, err)
		}
		return out
	}
	look("get", "pods", "-A", "-o", "wide")
	look("get", "pvc,pv,volumeattachments,pools,devices,storenodes,volumes,shards")
	look("get", "events", "-A", "--sort-by=.lastTimestamp")
	pods, err := p.Kubectl(ctx, nil, "-n", Namespace, "get", "pods", "-o", "name")
	if err != nil {
		fmt.Fprintln(&all, err)
	}
	for _, pod := range slices.Collect(strings.FieldsSeq(string(pods))) {
		look("-n", Namespace, "logs", "--all-containers", "--tail=25", pod)
	}
	return all.String()
}
