package lab

import (
	"context"
	"errors"
	"fmt"
)

// LoadImages imports image archives in every node that is on; pods then use them without a registry.
func (c *Cluster) LoadImages(ctx context.Context, archives ...string) error {
	var tasks []func() error
	for _, n := range c.nodes {
		if n.IsOn() {
			tasks = append(tasks, func() error { return n.load(ctx, archives) })
		}
	}
	return errors.Join(inParallel(tasks...)...)
}

// load imports archives one after the other.
func (n *Node) load(ctx context.Context, archives []string) error {
	for _, archive := range archives {
		if _, err := n.ctr(ctx, "images", "import", "--snapshotter", "overlayfs", archive); err != nil {
			return fmt.Errorf("import %s in %s: %w", archive, n.Name, err)
		}
	}
	return nil
}
