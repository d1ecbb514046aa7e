package tcp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/poll"
)

// turnOut is how much is sent in one turn, in bytes and up to one system call more: then the loop goes on, after others
// had their turn. Else who flushes would send for as long as others queue, and a loop would do nothing else.
const turnOut = 1 << 20

// Flush implements transport.Conn. One at a time sends; what others queue meanwhile goes with the next system call.
func (c *conn) Flush() {
	if !c.begin() {
		return
	}
	if c.transmit() {
		c.handOver()
	} else {
		c.done()
	}
}

// begin takes the queue for sending, unless somebody sends already or there is nothing.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushing || c.closed || c.queue.empty() {
		return false
	}
	c.flushing = true
	c.users++
	c.queue, c.sending = c.sending, c.queue
	return true
}

// transmit sends until there is nothing any more, or reports that more is to be sent: the network is full, or turnOut
// reached. After an error the turn stays taken: nobody sends any more.
func (c *conn) transmit() (more bool) {
	for left := turnOut; ; {
		n, full, err := c.sending.send(c.fd, left, &c.sent, c.options.Metrics)
		left -= n
		switch {
		case err != nil:
			c.sending.drop()
			c.Close(fmt.Errorf("send to %s: %w", c.remote, err))
			return false
		case full:
			return true
		case c.sending.empty() && !c.again():
			return false
		case left <= 0:
			return true
		}
	}
}

// again takes what was queued meanwhile; without anything the turn is over.
func (c *conn) again() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.queue.empty() {
		c.flushing = false
		if c.waits {
			c.waits = false
			c.source.Want(0, poll.Writable)
		}
		return false
	}
	c.queue, c.sending = c.sending, c.queue
	return true
}

// handOver gives the turn to the loop, which hears when the network takes more.
func (c *conn) handOver() {
	c.mu.Lock()
	if c.closed {
		c.sending.drop()
	} else {
		c.waits = true
		c.watchLocked()
		c.source.Want(poll.Writable, 0)
	}
	c.mu.Unlock()
	c.done()
}

// goOn sends, on the loop, what is left of the turn before.
func (c *conn) goOn() {
	c.mu.Lock()
	waits := c.waits
	c.mu.Unlock()
	if waits {
		c.transmit()
	}
}

// watchLocked looks from now on whether what waits goes on.
func (c *conn) watchLocked() {
	if c.watch == nil && !c.closed {
		c.seenSent, c.seenReceived = c.sent.Load(), c.received.Load()
		c.watch = after(stallTimeout, c.look)
	}
}

// ownFaultLocked says that it is not the peer that has not sent: the loop has not read, or has no memory for it.
func (c *conn) ownFaultLocked() bool {
	if c.closed {
		return false
	}
	n, err := unix.IoctlGetInt(c.fd, unix.SIOCINQ)
	return err == nil && n > 0 || c.reader.starved.Load()
}

// takesMoreLocked says that it is not the peer that takes nothing: the loop has not sent.
func (c *conn) takesMoreLocked() bool {
	if c.closed {
		return false
	}
	fds := [1]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds[:], 0)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll(fds[:], 0)
	}
	return err == nil && n > 0
}

// look ends a connection that waits and has come no further since it began to be watched.
func (c *conn) look() {
	c.mu.Lock()
	partial := c.partial.Load()
	stuck := c.waits && c.sent.Load() == c.seenSent && !c.takesMoreLocked() ||
		partial && c.received.Load() == c.seenReceived && !c.ownFaultLocked()
	c.watch = nil
	if !stuck && (c.waits || partial) {
		c.watchLocked()
	}
	c.mu.Unlock()
	if stuck {
		c.Close(errStalled)
	}
}
