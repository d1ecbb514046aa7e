package tcp

import (
	"github.com/shale-storage/shale/storenode/transport"
)

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
