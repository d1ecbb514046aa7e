package tcp

import (
	"github.com/shale-storage/shale/storenode/transport"
)

// NoHello says that the time for the first frame is over.
func NoHello(c transport.Conn) { c.(*conn).noHello() }

// Starved tells whether a connection is not read, for want of memory.
func Starved(c transport.Conn) bool { return c.(*conn).reader.starved.Load() }

// Waits makes a connection wait as after a turn by which the loop has sent nothing yet.
func Waits(c transport.Conn) {
	n := c.(*conn)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waits = true
	n.watchLocked()
}

// TurnOut bounds what is sent in one turn, in bytes, and MaxVectors the pieces of its last system call.
const (
	TurnOut    = turnOut
	MaxVectors = maxVectors
)

// Turns sends frames by a socket, and tells how many bytes each turn has sent.
func Turns(o *Options, fd int, frames []transport.Frame) (sent []int64, err error) {
	c := &conn{options: o, fd: fd, maxQueue: minQueue, users: 1}
	for i := range frames {
		if err := c.Send(&frames[i]); err != nil {
			return nil, err
		}
	}
	for more := c.begin(); more; {
		before := c.sent.Load()
		more = c.transmit()
		sent = append(sent, c.sent.Load()-before)
	}
	return sent, c.cause
}

// Watched tells whether it is looked, by and by, whether what waits on a connection goes on.
func Watched(c transport.Conn) bool {
	n := c.(*conn)
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.watch != nil
}

// Look does that now.
func Look(c transport.Conn) {
	if n := c.(*conn); Watched(c) {
		n.look()
	}
}
