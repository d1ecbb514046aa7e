package tcp

import "github.com/shale-storage/shale/storenode/transport"

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
