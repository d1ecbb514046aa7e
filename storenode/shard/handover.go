package shard

import "slices"

// Leave begins the controlled hand-over, before the process ends: Primaries propose others in their place, and other
// storenodes are told, with the answers to their heartbeats, to take what is here out of InSync. Everything is served
// until then. See Held.
func (h *Host) Leave() {
	h.leaving.Store(true) // before the look: what is added later sees it
	h.mu.RLock()
	monitors, replicas := slices.Clone(h.monitors), h.replicas
	h.mu.RUnlock()
	now := h.o.Clock()
	for _, m := range monitors {
		m.Enter()
		for _, r := range replicas {
			if r.monitor == m && !r.closed {
				r.machine.Leave(now)
				r.touch()
			}
		}
		m.Leave()
	}
}

// Held counts the Replicas here whose end now would be noticed more than later: those InSync that others can, or will
// soon be able to, do without.
func (h *Host) Held() int {
	h.mu.RLock()
	replicas := h.replicas
	h.mu.RUnlock()
	held := 0
	for _, r := range replicas {
		r.monitor.Enter()
		if !r.closed && r.machine.Held() {
			held++
		}
		r.monitor.Leave()
	}
	return held
}

// leaves notes that the process at the other end of the connection is about to end; it reports whether that is news.
func (p *peer) leaves(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out != l || p.leaving {
		return false
	}
	p.leaving = true
	return true
}

func (p *peer) isLeaving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leaving
}

// tellLeaving tells the Machines that a peer is about to end. Outside of monitors.
func (h *Host) tellLeaving(p *peer) {
	h.o.Log.Info("Storenode is about to end", "address", p.address)
	now := h.o.Clock()
	for _, r := range h.usersOf(p) {
		r.monitor.Enter()
		for _, m := range r.members {
			if m.peer == p && !r.closed {
				r.machine.Leaves(now, m.id)
				r.touch()
			}
		}
		r.monitor.Leave()
	}
}
