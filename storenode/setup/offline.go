package setup

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/shale-storage/shale/storenode/inspect"
	"github.com/shale-storage/shale/storenode/setup/process"
)

func newInspect(bootID *string) *cobra.Command {
	return &cobra.Command{
		Use: "inspect DEVICE", Short: "Show what a Device holds; it must not be in use", Args: cobra.ExactArgs(1),
		RunE: offline(bootID, inspect.Show),
	}
}

func newCheck(bootID *string) *cobra.Command {
	return &cobra.Command{
		Use: "check DEVICE", Short: "Verify a Device and all its written Blocks; it must not be in use",
		Args: cobra.ExactArgs(1),
		RunE: offline(bootID, inspect.Check),
	}
}

func offline(bootID *string, f func(io.Writer, string, uint64) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		boot, err := process.Boot(*bootID)
		if err != nil {
			return err
		}
		return f(c.OutOrStdout(), args[0], powered(args[0], boot))
	}
}
