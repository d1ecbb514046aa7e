package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use: "verifier", Short: "Find lost acknowledged writes", SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(newWrite(), newCheck(), newFill())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "verifier:", err)
		os.Exit(1) //nolint:gocritic // the process ends; the signal handler needs no release
	}
}

func newWrite() *cobra.Command {
	var o writeOptions
	var seconds int
	c := &cobra.Command{
		Use: "write", Short: "Write, and log what is acknowledged", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			if seconds > 0 {
				timed, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
				defer cancel()
				ctx = timed
			}
			return write(ctx, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.path, "path", "", "file or block device to write")
	f.StringVar(&o.log, "log", "", "log of writes, on other storage; continued if it exists")
	f.Int64Var(&o.size, "size", 64<<20, "bytes to write within, from the start")
	f.IntVar(&o.depth, "depth", 16, "writes in flight")
	f.DurationVar(&o.pace, "pace", 0, "pause between two writes of a worker")
	f.BoolVar(&o.prefill, "prefill", false, "write every block and flush before the work begins")
	f.BoolVar(&o.sameCRC, "same-crc", false, "end blocks with their CRC32C, so that it is the same for all of them")
	f.StringVar(&o.report, "report", "", "file that gets the printed lines as well")
	f.IntVar(&seconds, "seconds", 0, "end after so long; 0 runs until SIGTERM")
	_, _ = c.MarkFlagRequired("path"), c.MarkFlagRequired("log")
	return c
}

func newCheck() *cobra.Command {
	var path, log string
	c := &cobra.Command{
		Use: "check", Short: "Compare every logged Block", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v, err := check(path, log)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
				return fmt.Errorf("print verdict: %w", err)
			}
			if v.Lost > 0 {
				return errors.New("acknowledged writes are lost: " + v.First)
			}
			return nil
		},
	}
	c.Flags().StringVar(&path, "path", "", "file or block device to check")
	c.Flags().StringVar(&log, "log", "", "log of writes")
	_, _ = c.MarkFlagRequired("path"), c.MarkFlagRequired("log")
	return c
}

func newFill() *cobra.Command {
	var path string
	var size int64
	c := &cobra.Command{
		Use: "fill", Short: "Write until there is no space", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			done, err := fillUp(path, size)
			if encoded := json.NewEncoder(os.Stdout).Encode(done); encoded != nil {
				return fmt.Errorf("print what was filled: %w", encoded)
			}
			return err
		},
	}
	c.Flags().StringVar(&path, "path", "", "file or block device to fill")
	c.Flags().Int64Var(&size, "size", 0, "bytes to write at most")
	_, _ = c.MarkFlagRequired("path"), c.MarkFlagRequired("size")
	return c
}
