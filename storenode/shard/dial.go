package shard

import (
	"context"
	"time"

	"github.com/shale-storage/shale/storenode/transport"
)

// dialTimeout bounds one try to connect.
const dialTimeout = time.Second

// Dialing makes a Dialer of a transport's, which waits.
type Dialing struct {
	// Context ends all tries.
	Context context.Context //nolint:containedctx // it spans calls that take none, as the life of this value does
	Dialer  transport.Dialer
	// Go runs a function on a goroutine of its own; whoever gives it waits for the goroutines to end.
	Go func(func())
}

// Dial implements Dialer.
func (d Dialing) Dial(address string, h transport.Handler, done func(transport.Conn, error)) {
	d.Go(func() {
		ctx, cancel := context.WithTimeout(d.Context, dialTimeout)
		defer cancel()
		done(d.Dialer.Dial(ctx, address, h))
	})
}
