package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/shale-storage/shale/hack/lab/loops"
)

// PowerOff ends all processes of the node at once, as pulling the plug does. Its disks keep all that was written,
// flushed or not, so that a flush which is forgotten is not found here: what an SSD loses is under test in
// storenode/store and storenode/sim. But the node draws a new BootID when it is powered on, so that its storenode has
// to reckon with it.
func (n *Node) PowerOff(ctx context.Context) error {
	c := n.cluster
	c.log.Info("Powering off", "node", n.Name)
	own, err := n.loops()
	if err != nil {
		return fmt.Errorf("power off %s: %w", n.Name, err)
	}
	group := c.group.Child(n.Name)
	if err := group.Kill(ctx); err != nil {
		return fmt.Errorf("power off %s: %w", n.Name, err)
	}
	if err := own.detach(); err != nil {
		return fmt.Errorf("power off %s: %w", n.Name, err)
	}
	if err := group.Remove(); err != nil {
		return fmt.Errorf("power off %s: %w", n.Name, err)
	}
	return c.store.change(func(st *state) { delete(st.Holders, n.Name) })
}

// ownLoops are a node's loop devices.
type ownLoops struct {
	owner loops.Owner
	// known were attached when it was asked; what came later is found by its file system.
	known []loops.Device
}

// loops gathers the node's loop devices while its processes and mounts still tell.
func (n *Node) loops() (ownLoops, error) {
	pids, err := n.cluster.group.Child(n.Name).Pids()
	if err != nil {
		return ownLoops{}, err
	}
	mounted := loops.MountedBy(pids)
	for dev := range loops.MountedBy([]int{os.Getpid()}) {
		delete(mounted, dev)
	}
	owner := loops.Owner{FileSystems: mounted, Root: n.Root(), Mark: n.initiatorMark()}
	all, err := loops.List()
	return ownLoops{owner: owner, known: owner.Of(all)}, err
}

// initiatorMark tells the loop devices of the node's initiator; empty if it never had one. Its file goes with the next
// PowerOn.
func (n *Node) initiatorMark() string {
	identity, err := os.ReadFile(filepath.Join(n.Root(), "/run/shale/loop/identity"))
	if err != nil {
		return ""
	}
	return loops.MarkOf(strings.TrimSpace(string(identity)))
}

// detach frees them, those on top of others first, when the node is dead.
func (o ownLoops) detach() error {
	all, err := loops.List()
	if err != nil {
		return err
	}
	return errors.Join(detachAll(o.known), detachAll(o.owner.Of(all)))
}

func detachAll(devices []loops.Device) error {
	var failed []error
	for _, d := range devices {
		failed = append(failed, d.Detach())
	}
	return errors.Join(failed...)
}

// PowerOn starts a node that is off and waits until it is ready.
func (n *Node) PowerOn(ctx context.Context) error {
	if n.IsOn() {
		return fmt.Errorf("power on %s: it is on", n.Name)
	}
	n.cluster.log.Info("Powering on", "node", n.Name)
	if err := n.start(ctx); err != nil {
		return err
	}
	return n.startKubelet(ctx)
}

// IsOn reports whether the node runs.
func (n *Node) IsOn() bool { return n.cluster.space(n.Name).Alive() }
