package setup

import (
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/scrub"
	"github.com/shale-storage/shale/storenode/setup/process"
)

// Options are what the program itself gives.
type Options struct {
	Version string
}

// New is the command storenode.
func New(o Options) *cobra.Command {
	root := &cobra.Command{
		Use: "storenode", Short: "Shale's storenode: serves Replicas from the SSDs of a node", Version: o.Version,
		SilenceUsage: true, SilenceErrors: true,
	}
	var bootID string
	root.PersistentFlags().StringVar(&bootID, "boot-id-file", process.BootIDFile,
		"file whose content changes when the machine starts: what was not flushed to a Device may be lost then")
	root.AddCommand(newRun(o, &bootID), newInspect(&bootID), newCheck(&bootID))
	return root
}

// flags of `storenode run`.
type flags struct {
	node, namespace, address string
	port                     uint16
	metrics, stateDir        string
	bootID                   string
	memory                   int
	scrub, handOver          time.Duration
	level                    slog.Level
}

func newRun(o Options, bootID *string) *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "run", Short: "Serve the Devices that Pools select on this node", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f.bootID = *bootID
			log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: f.level}))
			return run(c.Context(), &f, o.Version, log)
		},
	}
	c.Flags().StringVar(&f.node, "node", "", "name of this Kubernetes node (required)")
	c.Flags().StringVar(&f.namespace, "namespace", "shale-system", "namespace of Shale's own objects")
	c.Flags().StringVar(&f.address, "address", "", "IP address at which other nodes reach this one (required)")
	c.Flags().Uint16Var(&f.port, "port", 7800, "TCP port for clients and other storenodes")
	c.Flags().StringVar(&f.metrics, "metrics-addr", "", "host:port of /metrics, /healthz and /readyz; empty for none")
	c.Flags().StringVar(&f.stateDir, "state-dir", "/var/lib/shale",
		"directory kept on the node; made if it is missing, so that Devices that are files may lie below it")
	c.Flags().IntVar(&f.memory, "memory-mib", 0,
		"memory for data on its way, in MiB, 4 at least; 0 for a share of the machine's")
	c.Flags().DurationVar(&f.scrub, "scrub-pass", scrub.DefaultPass,
		"how long one pass takes in which all Extents are read and compared on all Replicas; 0 for none")
	c.Flags().DurationVar(&f.handOver, "hand-over-timeout", replication.HandOverTime,
		"how long at most to wait at SIGTERM until other nodes serve what is served here")
	c.Flags().TextVar(&f.level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	_ = c.MarkFlagRequired("node")
	_ = c.MarkFlagRequired("address")
	return c
}
