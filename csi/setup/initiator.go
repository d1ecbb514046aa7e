package setup

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/loop"
	"github.com/shale-storage/shale/csi/attach/volume"
	"github.com/shale-storage/shale/csi/initiator"
	"github.com/shale-storage/shale/storenode/client"
)

type initiatorFlags struct {
	socket, node, stateDir, linkDir, holder string

	restart    bool
	maxVolumes int
	// memory of each Volume, in MiB.
	memory int
}

func newInitiator(p *process) *cobra.Command {
	var f initiatorFlags
	c := &cobra.Command{
		Use: "initiator", Short: "Own the block devices of attached Volumes", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			// It says itself what it then lacks.
			_ = becomeFlusher(p.log)
			if f.restart {
				program, err := os.Executable()
				if err != nil {
					return fmt.Errorf("find own program: %w", err)
				}
				return restarting(c.Context(), program, withoutRestart(os.Args[1:]), p.log)
			}
			return p.runInitiator(c.Context(), f)
		},
	}
	c.Flags().StringVar(&f.socket, "socket", "/run/shale/initiator.sock", "socket for the node plugin")
	c.Flags().StringVar(&f.node, "node", "", "name of this Kubernetes node (required)")
	c.Flags().StringVar(&f.stateDir, "state-dir", "/run/shale/loop", "where the frontends keep what they mount")
	c.Flags().StringVar(&f.linkDir, "link-dir", "/dev/shale", "directory of stable names of the devices")
	c.Flags().StringVar(&f.holder, "holder-socket", "",
		"socket of the holder, with which devices outlive this process; empty for none")
	c.Flags().BoolVar(&f.restart, restartFlag, false, "run as a child that is started anew as soon as it dies")
	c.Flags().IntVar(&f.maxVolumes, "max-volumes", 128, "volumes that may be attached at a time")
	c.Flags().IntVar(&f.memory, "volume-memory", 64, "MiB that the payloads of one attached volume may take")
	_ = c.MarkFlagRequired("node")
	return c
}

func (p *process) runInitiator(ctx context.Context, f initiatorFlags) error {
	frontend, err := loop.New(loop.Options{StateDir: f.stateDir, LinkDir: f.linkDir, Log: p.log})
	if err != nil {
		return fmt.Errorf("make loop frontend: %w", err)
	}
	if err := frontend.Probe(); err != nil {
		return fmt.Errorf("probe loop frontend: %w", err)
	}
	volumes, err := client.NewProcess(client.ProcessOptions{
		Node: f.node, Memory: f.memory << 20, AfterFunc: afterFunc, Log: p.log,
	})
	if err != nil {
		return fmt.Errorf("make volume client: %w", err)
	}
	registerVolumes(p.metrics, volumes.Metrics())
	i, err := initiator.New(initiator.Options{
		Socket: f.socket, Node: f.node, Frontends: []attach.Frontend{frontend},
		Open: volume.Opener(volumes), MaxVolumes: f.maxVolumes, Holder: f.holder,
		Life: second(), Clock: second, Log: p.log,
	})
	if err != nil {
		return fmt.Errorf("make initiator: %w", err)
	}
	registerDevices(p.metrics, i.Health)
	// Not through the socket: calls that wait there must not make the kubelet end the devices.
	alive := func(context.Context) error { return i.Ready() }
	return together(ctx,
		i.Run,
		func(ctx context.Context) error { return serveHealth(ctx, p.health, p.metrics, alive) },
	)
}

// second is the one that it is now. It fits until 2106.
func second() uint32 { return uint32(time.Now().Unix()) }

// afterFunc is the real clock.
func afterFunc(d time.Duration, f func()) client.Timer { return time.AfterFunc(d, f) }
