package client

import (
	"context"
	"fmt"
)

// Fence makes every Shard refuse older attachments, on each Replica in sync, and returns when that is so: it is a
// FLUSH of the whole Volume, which each Primary takes with our Generation and passes on to its Backups. Call it once,
// before anything is written. Until all Shards have a Primary it waits, as long as ctx allows; then it says
// ErrUnreachable, and the Volume is good for nothing but to be closed.
func (v *Volume) Fence(ctx context.Context) error {
	ended := make(waiter, 1)
	r := &Request{Op: OpFlush, Done: ended}
	v.Submit(r) //nolint:contextcheck // a Request outlives who waits for it; connections are the Volume's
	v.Kick()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("fence volume %s: not all shards answer: %w: %w", v.o.Volume, ErrUnreachable, ctx.Err())
	}
	if r.Err != nil {
		return fmt.Errorf("fence volume %s: %w", v.o.Volume, r.Err)
	}
	return nil
}

// waiter is told of the end of one Request.
type waiter chan struct{}

// RequestDone implements Completer.
func (w waiter) RequestDone(*Request) { w <- struct{}{} }
