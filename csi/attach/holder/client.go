package holder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrAway says that no holder listens at the socket, so none keeps anything.
var ErrAway = errors.New("no holder is running")

// errLost says that the connection ended before the answer came.
var errLost = errors.New("connection to the holder is lost")

// Client is a connection to the holder.
type Client struct {
	conn *net.UnixConn
	// answers come from the one goroutine that reads; closed ends it and every call.
	answers chan *message
	closed  chan struct{}
	// quit tells that goroutine, by way of leave, that nobody waits for answers any more.
	quit  chan struct{}
	leave sync.Once

	// turn is held by the call in progress.
	turn sync.Mutex
}

// Dial connects. The holder takes up the connection, and answers the first call, when its former client has gone.
func Dial(ctx context.Context, path string) (*Client, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, network, path)
	if NobodyListens(err) {
		return nil, fmt.Errorf("connect to %s: %w: %w", path, ErrAway, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	conn, ok := raw.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connect to %s: got a %T", path, raw), raw.Close())
	}
	c := &Client{conn: conn, answers: make(chan *message), closed: make(chan struct{}), quit: make(chan struct{})}
	go c.read()
	return c, nil
}

// NobodyListens says of the error of a connect to a unix socket that there is no process behind it. Any other one, such
// as the end of its context, says nothing of that.
func NobodyListens(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// read hands answers to the call that waits for them.
func (c *Client) read() {
	defer close(c.closed)
	for {
		m, err := receive(c.conn)
		if err != nil {
			_ = c.conn.Close()
			return
		}
		select {
		case c.answers <- m:
		case <-c.quit:
			m.close()
			return
		}
	}
}

// end breaks the connection off.
func (c *Client) end() {
	c.leave.Do(func() { close(c.quit) })
	_ = c.conn.Close()
}

// Closed ends when the holder has gone, or after Close.
func (c *Client) Closed() <-chan struct{} { return c.closed }

// Close ends the connection; calls in progress fail.
func (c *Client) Close() {
	c.end()
	<-c.closed
}

// Keep has the holder keep i in place of what it has under that name.
func (c *Client) Keep(ctx context.Context, i Item) error {
	_, err := c.call(ctx, &message{Kind: kindKeep, Name: i.Name, State: i.State, files: i.Files})
	if err != nil {
		return fmt.Errorf("keep %s: %w", i.Name, err)
	}
	return nil
}

// Drop has the holder close what it has under name; nothing is no error.
func (c *Client) Drop(ctx context.Context, name string) error {
	if _, err := c.call(ctx, &message{Kind: kindDrop, Name: name}); err != nil {
		return fmt.Errorf("drop %s: %w", name, err)
	}
	return nil
}

// List is all that the holder keeps, by name, with descriptors of the caller's own.
func (c *Client) List(ctx context.Context) ([]Item, error) {
	items, err := c.call(ctx, &message{Kind: kindList})
	if err != nil {
		for i := range items {
			items[i].Close()
		}
		return nil, fmt.Errorf("list what is held: %w", err)
	}
	return items, nil
}

// call sends a request and takes its answers. One that does not end in time ends the connection, for its answer would
// be taken for the next one's.
func (c *Client) call(ctx context.Context, m *message) ([]Item, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	if err := send(c.conn, m); err != nil {
		return nil, err
	}
	var items []Item
	for {
		select {
		case <-ctx.Done():
			c.end()
			return items, fmt.Errorf("wait for the holder: %w", ctx.Err())
		case <-c.closed:
			return items, errLost
		case a := <-c.answers:
			switch a.Kind {
			case kindItem:
				items = append(items, a.item())
				continue
			case kindOK:
				return items, nil
			case kindKeep, kindDrop, kindList, kindError:
			}
			a.close()
			return items, fmt.Errorf("the holder says: %s", a.Error)
		}
	}
}
