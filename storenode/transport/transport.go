// Package transport is the one door to the network: connections that carry frames.
//
// Implementations: tcp. A connection keeps the order of what is sent on it, loses nothing while it lives, and dies
// as a whole: after the first error both ends close it, and whoever has requests outstanding hears of it by Closed.
//
// # Concurrency and ownership
//
// Frame and Idle are called by the connection's reader, one at a time per connection; a reader has many connections, so
// they must not wait for anything but a mutex that is held shortly. Between two Frame calls of one batch nothing is
// flushed, and Idle is called when the reader has no more complete frame, so a Handler may gather work over a batch
// (hold its monitor, say) and let go at Idle. Send may be called from any goroutine.
// A Frame's payload reference passes with it: Handler.Frame owns f.Payload and must Release it; Send takes over the
// reference it is given, also when it fails.
package transport

import (
	"context"
	"errors"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/wire"
)

// ErrClosed is returned by Send on a dead connection; ErrOverflow when its bounded queue is full, which kills it.
var (
	ErrClosed   = errors.New("connection is closed")
	ErrOverflow = errors.New("send queue overflow")
)

// Frame is a header and, if PayloadLength is not 0, its payload.
type Frame struct {
	wire.Header
	// Payload's bytes from its start; nil when PayloadLength is 0.
	Payload *buffer.Buffer
}

// Conn is one connection.
type Conn interface {
	// Send queues f (copied; the Frame may be reused at once) for the next Flush. Fills in PayloadCRC and, from
	// f.Payload, PayloadLength.
	Send(f *Frame) error
	// Flush sends what is queued with as few system calls as there can be, without blocking: what the network does
	// not take at once is sent by the connection itself.
	Flush()
	// Close ends the connection; Closed follows. err is what is logged and told.
	Close(err error)
	// Remote is the peer's address, for logs and metrics.
	Remote() string
}

// Handler receives what arrives on a connection.
type Handler interface {
	// Frame is called for each frame, its checksums verified. An error closes the connection.
	Frame(c Conn, f *Frame) error
	// Idle is called when no complete frame is left in the reader's buffer, after at least one Frame.
	Idle(c Conn)
	// Closed is called once, last.
	Closed(c Conn, err error)
}

// Dialer connects to a peer. The handler is in force before the first frame is read.
type Dialer interface {
	Dial(ctx context.Context, address string, h Handler) (Conn, error)
}

// Listener accepts connections until it is closed.
type Listener interface {
	// Serve calls accept for each connection, which returns its Handler, or an error to refuse it.
	Serve(accept func(Conn) (Handler, error)) error
	Address() string
	Close() error
}
