package setup

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// answerWithin is how long a host may take to accept or refuse a connection.
const answerWithin = time.Second

// dialer asks hosts by connecting to them.
type dialer struct{}

// Answer implements storenode.Hosts. A refusal is an answer: the host's kernel gave it.
func (dialer) Answer(ctx context.Context, addresses []string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	answers := make([]bool, len(addresses))
	var asked sync.WaitGroup
	for i, address := range addresses {
		asked.Go(func() {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				_ = c.Close() // nothing was sent
			}
			answers[i] = err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
			if answers[i] {
				cancel()
			}
		})
	}
	asked.Wait()
	for _, answered := range answers {
		if answered {
			return true
		}
	}
	return false
}
