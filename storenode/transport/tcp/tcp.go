package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/transport"
)

// Options of a Dialer and a Listener. All are required.
type Options struct {
	// Pool gives memory for payloads.
	Pool *buffer.Pool
	// Metrics are counted into.
	Metrics *Metrics
	Log     *slog.Logger
	// MaxConnections bounds what a Listener accepts at a time.
	MaxConnections int

	// lastBad is when a bad frame was last logged, in Unix seconds.
	lastBad atomic.Int64
}

// badFrame counts, and logs at most once a second.
func (o *Options) badFrame(remote string, err error) {
	count := o.Metrics.BadFrames.Add(1)
	now := time.Now().Unix() //nolint:forbidigo // only spares the log
	if last := o.lastBad.Load(); last != now && o.lastBad.CompareAndSwap(last, now) {
		o.Log.Warn("Closed a connection that sent no frames of ours", "remote", remote, "error", err, "count", count)
	}
}

// Dialer connects to storenodes. It implements transport.Dialer.
type Dialer struct{ Options *Options }

// Dial implements transport.Dialer.
func (d Dialer) Dial(ctx context.Context, address string, h transport.Handler) (transport.Conn, error) {
	dialer := net.Dialer{Control: beginLocal}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	n, err := newConn(d.Options, c.(*net.TCPConn))
	if err != nil {
		return nil, err
	}
	if err := n.start(h); err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return n, nil
}

// Listener accepts connections. It implements transport.Listener.
type Listener struct {
	options *Options
	tcp     *net.TCPListener

	mu     sync.Mutex
	open   map[*conn]struct{}
	closed bool
}

// Listen starts to listen at address, host:port.
func Listen(ctx context.Context, address string, o *Options) (*Listener, error) {
	config := net.ListenConfig{Control: beginLocal}
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, err)
	}
	return &Listener{options: o, tcp: l.(*net.TCPListener), open: map[*conn]struct{}{}}, nil
}

// Address implements transport.Listener.
func (l *Listener) Address() string { return l.tcp.Addr().String() }

// Serve implements transport.Listener. It returns nil after Close.
func (l *Listener) Serve(accept func(transport.Conn) (transport.Handler, error)) error {
	const pause = 50 * time.Millisecond
	for {
		c, err := l.tcp.AcceptTCP()
		switch {
		case err == nil:
			l.serve(c, accept)
		case errors.Is(err, net.ErrClosed):
			return nil
		case isPassing(err):
			time.Sleep(pause) //nolint:forbidigo // others must end first, or the network come back
		default:
			return fmt.Errorf("accept at %s: %w", l.Address(), err)
		}
	}
}

// isPassing says that to accept a connection may work again soon: see the errors of accept(2).
func isPassing(err error) bool {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno { //nolint:exhaustive // the others are of our own making
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN,
		unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH:
		return true
	}
	return false
}

func (l *Listener) serve(c *net.TCPConn, accept func(transport.Conn) (transport.Handler, error)) {
	n, err := newConn(l.options, c)
	if err == nil {
		if err = l.add(n); err != nil {
			n.discard()
		}
	}
	if err != nil {
		if !errors.Is(err, transport.ErrClosed) { // we are ending, and need not say so once more
			l.options.Log.Warn("Refused a connection", "remote", c.RemoteAddr(), "error", err)
		}
		return
	}
	h, err := accept(n)
	if err != nil {
		l.remove(n)
		n.discard()
		return
	}
	a := &accepted{Handler: h, l: l, c: n}
	if err := n.start(a); err != nil {
		l.options.Log.Warn("Refused a connection", "remote", n.remote, "error", err)
		a.Closed(n, err)
	}
}

// Close implements transport.Listener; it ends the accepted connections too.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	open := make([]*conn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.Close(transport.ErrClosed)
	}
	return l.tcp.Close()
}

func (l *Listener) add(c *conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return transport.ErrClosed
	}
	if len(l.open) >= l.options.MaxConnections {
		return fmt.Errorf("%d connections are open, which is the limit", len(l.open))
	}
	l.open[c] = struct{}{}
	return nil
}

func (l *Listener) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// accepted forgets the connection when it ends.
type accepted struct {
	transport.Handler
	l *Listener
	c *conn
}

func (a *accepted) Closed(c transport.Conn, err error) {
	a.l.remove(a.c)
	a.Handler.Closed(c, err)
}

// setUp gives a descriptor of ours for c, which is closed by the caller: the runtime's poller is not to look after it.
func setUp(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if err := tune(c, raw); err != nil {
		return -1, err
	}
	control := raw.Control(func(theirs uintptr) {
		fd, err = unix.FcntlInt(theirs, unix.F_DUPFD_CLOEXEC, 0)
	})
	return fd, errors.Join(control, err)
}

func tune(c *net.TCPConn, raw syscall.RawConn) error {
	err := errors.Join(
		c.SetNoDelay(true),
		c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 2}),
	)
	local := isLocal(c.LocalAddr(), c.RemoteAddr())
	var option error
	control := raw.Control(func(fd uintptr) {
		if !local {
			leadsElsewhere(int(fd))
		}
		option = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(stallTimeout/time.Millisecond))
	})
	return errors.Join(err, control, option)
}
