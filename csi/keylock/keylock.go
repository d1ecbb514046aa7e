// Package keylock holds names of things that a call is at work on.
//
// Nobody waits: a name that is held is refused, and the caller answers Aborted, which makes Kubernetes try again with
// its own back-off. Waiting calls would pile up behind one that hangs. Safe for concurrent use. The table is bounded by
// the calls in progress, which the gRPC listener bounds.
package keylock

import "sync"

// Locks are the names that are held. The zero value holds none.
type Locks struct {
	// mu guards held.
	mu   sync.Mutex
	held map[string]struct{}
}

// TryAcquire takes name, unless it is held.
func (l *Locks) TryAcquire(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, busy := l.held[name]; busy {
		return false
	}
	if l.held == nil {
		l.held = map[string]struct{}{}
	}
	l.held[name] = struct{}{}
	return true
}

// Release gives name back; it must be held.
func (l *Locks) Release(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, name)
}
