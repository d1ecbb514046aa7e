package tcp

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// maxQueue bounds what waits to be sent on one connection, in bytes.
	maxQueue = 64 << 20
	// stallTimeout is how long a peer may take nothing, or leave what was sent unacknowledged.
	stallTimeout = 5 * time.Second
	// helloTimeout is how long the first frame may take.
	helloTimeout = 5 * time.Second
	// keepAlive finds peers that vanished while nothing is sent.
	keepAlive = 5 * time.Second
)

// Metrics count over all connections that share them.
type Metrics struct {
	FramesIn, FramesOut, BytesIn, BytesOut, BadFrames, Connections atomic.Int64
}

// conn is one connection. It implements transport.Conn.
type conn struct {
	options *Options
	tcp     *net.TCPConn
	raw     syscall.RawConn
	remote  string
	handler transport.Handler

	// mu guards the queue and flushing.
	mu       sync.Mutex
	queue    batch
	closed   bool
	flushing bool // one goroutine sends, and looks at the queue again before it stops

	// sending belongs to whoever set flushing.
	sending batch
	// once is sendSome as a func, made once so that Flush allocates nothing; wait is sendAll.
	once, wait func(fd uintptr) bool
	sendErr    error
	stalled    chan struct{}

	closeOnce sync.Once
	cause     error
	ended     chan struct{}
}

func newConn(o *Options, c *net.TCPConn) (*conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("set up connection: %w", err)
	}
	if err := tune(c, raw); err != nil {
		return nil, err
	}
	n := &conn{
		options: o, tcp: c, raw: raw, remote: c.RemoteAddr().String(),
		stalled: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	n.once, n.wait = n.sendSome, n.sendAll
	return n, nil
}

// start begins to read and, for a connection that may stall, to write. Closed follows when both have ended.
func (c *conn) start(h transport.Handler) {
	c.handler = h
	c.options.Metrics.Connections.Add(1)
	var workers sync.WaitGroup
	workers.Go(func() { c.Close(c.read()) })
	workers.Go(c.writeStalled)
	go func() {
		workers.Wait()
		c.drop()
		c.options.Metrics.Connections.Add(-1)
		h.Closed(c, c.cause)
	}()
}

// Remote implements transport.Conn.
func (c *conn) Remote() string { return c.remote }

// Close implements transport.Conn.
func (c *conn) Close(err error) {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.cause = err
		close(c.ended)
		_ = c.tcp.Close() // nothing to learn: the connection is given up
	})
}

// Send implements transport.Conn.
func (c *conn) Send(f *transport.Frame) error {
	f.PayloadLength, f.PayloadCRC = 0, 0
	if f.Payload != nil {
		f.PayloadLength, f.PayloadCRC = uint32(f.Payload.Len()), sumOf(f.Payload)
	}
	c.mu.Lock()
	err := c.appendLocked(f)
	c.mu.Unlock()
	if err == nil {
		return nil
	}
	if f.Payload != nil {
		f.Payload.Release()
	}
	if err == transport.ErrOverflow { //nolint:errorlint // our own value, unwrapped
		c.Close(err)
	}
	return err
}

// sumOf is the checksum of a payload: of whole Blocks by those of its Blocks, else of its bytes.
func sumOf(b *buffer.Buffer) uint32 {
	if sums := b.Sums(); sums != nil {
		return checksum.Payload(sums)
	}
	if b.Len()%ident.BlockSize != 0 {
		return wire.CRC(b.Bytes())
	}
	checksum.Blocks(b.Bytes(), b.SumsRoom())
	return checksum.Payload(b.SumsRoom())
}

func (c *conn) appendLocked(f *transport.Frame) error {
	if c.closed {
		return transport.ErrClosed
	}
	if c.queue.bytes+wire.HeaderSize+int(f.PayloadLength) > maxQueue {
		return transport.ErrOverflow
	}
	c.queue.add(f)
	return nil
}

// Flush implements transport.Conn.
func (c *conn) Flush() {
	if !c.begin() {
		return
	}
	for {
		c.sendErr = nil
		if err := c.raw.Write(c.once); err != nil || c.sendErr != nil {
			c.fail(err)
			return
		}
		if !c.sending.empty() {
			c.handOver()
			return
		}
		if !c.again() {
			return
		}
	}
}

// handOver lets the writer go on when the network is full; it has the turn until it is done.
func (c *conn) handOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.sending.drop()
		return
	}
	c.stalled <- struct{}{} // never blocks: there is one turn
}

// begin takes the queue for sending, unless somebody sends already or there is nothing.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushing || c.closed || c.queue.empty() {
		return false
	}
	c.flushing = true
	c.queue, c.sending = c.sending, c.queue
	return true
}

// again takes what was queued meanwhile; without anything the turn is over.
func (c *conn) again() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.queue.empty() {
		c.flushing = false
		return false
	}
	c.queue, c.sending = c.sending, c.queue
	return true
}

// fail ends the connection from within a turn of sending, which stays taken: nobody sends any more.
func (c *conn) fail(err error) {
	if err == nil {
		err = c.sendErr
	}
	c.sending.drop()
	c.Close(fmt.Errorf("send to %s: %w", c.remote, err))
}

// writeStalled sends when the network could not take all at once.
func (c *conn) writeStalled() {
	for {
		select {
		case <-c.ended:
			return
		case <-c.stalled:
		}
		for {
			c.sendErr = nil
			_ = c.tcp.SetWriteDeadline(time.Now().Add(stallTimeout)) //nolint:forbidigo // the socket's clock is the real one
			if err := c.raw.Write(c.wait); err != nil || c.sendErr != nil {
				c.fail(err)
				return
			}
			_ = c.tcp.SetWriteDeadline(time.Time{})
			if !c.again() {
				break
			}
		}
	}
}

// sendSome sends what the network takes at once.
func (c *conn) sendSome(fd uintptr) bool {
	_, c.sendErr = c.sending.send(int(fd), c.options.Metrics)
	return true
}

// sendAll sends everything; false asks to be called again when there is room.
func (c *conn) sendAll(fd uintptr) bool {
	full, err := c.sending.send(int(fd), c.options.Metrics)
	c.sendErr = err
	return err != nil || !full
}

// drop releases what will never be sent. Whoever has the turn drops what he was sending.
func (c *conn) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.drop()
	select {
	case <-c.stalled:
		c.sending.drop()
	default:
	}
}
