package tcp

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/poll"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// minQueue may always wait to be sent on one connection, in bytes; more if the Pool allows it.
	minQueue = 64 << 20
	// stallTimeout is how long a peer may take nothing of what waits for it, or send nothing of a frame it has begun, or
	// leave what was sent unacknowledged. The first two are found within twice that.
	stallTimeout = 5 * time.Second
	// helloTimeout is how long the first frame may take.
	helloTimeout = 5 * time.Second
	// keepAlive finds peers that vanished while nothing is sent.
	keepAlive = 5 * time.Second
)

var (
	errNoFrame = errors.New("no frame came in time")
	errStalled = errors.New("peer has stopped in the middle of a frame")
)

// Metrics count over all connections that share them.
type Metrics struct {
	FramesIn, FramesOut, BytesIn, BytesOut, BadFrames, Connections atomic.Int64
}

// conn is one connection. It implements transport.Conn and poll.Handler.
type conn struct {
	options *Options
	fd      int
	remote  string
	handler transport.Handler
	source  *poll.Source
	// reader belongs to the loop.
	reader reader
	// maxQueue bounds the queue, in bytes.
	maxQueue int

	// mu guards what follows.
	mu     sync.Mutex
	queue  batch
	closed bool
	cause  error
	// flushing: somebody has the turn to send, and looks at the queue again before it ends. waits: it is the loop's,
	// until the network takes more.
	flushing, waits bool
	// users are the loop, and who has the turn otherwise; the last to go closes fd.
	users int
	// watch looks whether what waits has come further than was seen; nil while nothing waits.
	watch                  *time.Timer
	seenSent, seenReceived int64
	// hello ends a connection on which no frame comes; greeted: one came.
	hello   *time.Timer
	greeted bool

	// sending belongs to whoever has the turn.
	sending batch
	// sent and received count bytes, partial says that a frame has come in part: for watch.
	sent, received atomic.Int64
	partial        atomic.Bool
}

// newConn takes c over.
func newConn(o *Options, c *net.TCPConn) (*conn, error) {
	defer func() { _ = c.Close() }() // what we use is a descriptor of our own
	fd, err := setUp(c)
	if err != nil {
		return nil, fmt.Errorf("set up connection: %w", err)
	}
	n := &conn{options: o, fd: fd, remote: c.RemoteAddr().String(), maxQueue: maxQueue(o.Pool), users: 1}
	n.reader = newReader(n)
	return n, nil
}

// maxQueue lets all that a Pool gives wait on one connection, each of its smallest Buffers with a header: what waits
// lies in the Pool, so its limit bounds the memory, and a connection that had to end for less would only begin again
// with the same.
func maxQueue(p *buffer.Pool) int {
	_, limit := p.Use()
	return max(minQueue, limit/buffer.Alignment*(buffer.Alignment+wire.HeaderSize))
}

// start has frames handed to h. Closed follows, unless start fails.
func (c *conn) start(h transport.Handler) (err error) {
	c.handler = h
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.source, err = poll.Join(c.fd, c); err != nil {
		c.discardLocked()
		return err
	}
	c.options.Metrics.Connections.Add(1)
	c.hello = after(helloTimeout, c.noHello)
	return nil
}

// noHello ends a connection on which no frame has come, unless that is for us to wait for.
func (c *conn) noHello() {
	c.mu.Lock()
	ours := c.ownFaultLocked()
	over := c.greeted || c.closed
	if ours && !over {
		c.hello.Reset(helloTimeout)
	}
	c.mu.Unlock()
	if !ours && !over {
		c.Close(errNoFrame)
	}
}

// greet notes that the first frame has come.
func (c *conn) greet() {
	c.mu.Lock()
	c.greeted = true
	c.hello.Stop()
	c.mu.Unlock()
}

// after is by the real clock, which is the sockets'.
func after(d time.Duration, f func()) *time.Timer { return time.AfterFunc(d, f) } //nolint:forbidigo // see above

// discard ends a connection that was not started.
func (c *conn) discard() {
	c.mu.Lock()
	c.discardLocked()
	c.mu.Unlock()
}

func (c *conn) discardLocked() {
	c.closed = true
	_ = unix.Close(c.fd)
}

// Remote implements transport.Conn.
func (c *conn) Remote() string { return c.remote }

// Close implements transport.Conn. The loop, or who has the turn, ends what there is.
func (c *conn) Close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed, c.cause = true, err
	_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // which the loop hears of; a dead connection is Hung anyway
}

// Ready implements poll.Handler.
func (c *conn) Ready(e poll.Events) {
	if !c.isOpen() {
		c.leave()
		return
	}
	if e&(poll.Writable|poll.Hung) != 0 {
		c.goOn()
	}
	err := c.reader.run(e&poll.Hung != 0)
	c.reader.idle()
	if err == nil {
		return
	}
	if errors.Is(err, wire.ErrMalformed) && c.isOpen() {
		c.options.badFrame(c.remote, err)
	}
	c.Close(err)
	c.leave()
}

func (c *conn) isOpen() bool {
	c.mu.Lock() // also waits for start
	defer c.mu.Unlock()
	return !c.closed
}

// leave is the end on the loop.
func (c *conn) leave() {
	c.source.Leave()
	c.reader.drop()
	c.hello.Stop()
	c.mu.Lock()
	if c.watch != nil {
		c.watch.Stop()
	}
	if c.waits {
		c.sending.drop()
	}
	c.mu.Unlock()
	c.done()
}

// done lets go. The last one closes what there is; Closed is told from outside all that a caller may be in.
func (c *conn) done() {
	c.mu.Lock()
	c.users--
	last := c.users == 0
	if last {
		c.queue.drop()
	}
	c.mu.Unlock()
	if last {
		_ = unix.Close(c.fd) // nothing to learn: the connection is given up
		c.options.Metrics.Connections.Add(-1)
		go c.handler.Closed(c, c.cause)
	}
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
	if c.queue.bytes+wire.HeaderSize+int(f.PayloadLength) > c.maxQueue {
		return transport.ErrOverflow
	}
	c.queue.add(f)
	return nil
}
