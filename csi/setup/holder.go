package setup

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/shale-storage/shale/csi/attach/holder"
)

func newHolder(p *process) *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use: "holder", Short: "Keep open what the initiator's successor needs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.runHolder(c.Context(), socket) },
	}
	c.Flags().StringVar(&socket, "socket", "/run/shale/holder.sock", "socket for the initiator")
	return c
}

func (p *process) runHolder(ctx context.Context, socket string) error {
	listener, err := holder.Listen(ctx, socket)
	if err != nil {
		return err
	}
	p.log.Info("Holder is up", "socket", socket)
	alive := func(context.Context) error { return nil }
	return together(ctx,
		func(ctx context.Context) error {
			if err := holder.New(p.log).Serve(ctx, listener); err != nil {
				return fmt.Errorf("hold: %w", err)
			}
			return nil
		},
		func(ctx context.Context) error {
			// It does not take the devices along.
			if err := serveHealth(ctx, p.health, p.metrics, alive); err != nil {
				p.log.Error("Cannot serve health", "cause", err)
				<-ctx.Done()
			}
			return nil
		},
	)
}
