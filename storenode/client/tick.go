package client

import "time"

// tick lets time pass.
func (v *Volume) tick() {
	v.mu.Lock()
	if v.ended != nil {
		v.armed = false
		v.mu.Unlock()
		return
	}
	v.now++
	kept := v.active[:0]
	for _, s := range v.active {
		if s.active = !s.idle(); s.active {
			kept = append(kept, s)
		}
	}
	clear(v.active[len(kept):])
	v.active = kept
	var stalled, troubled, unreached *shard
	for _, s := range v.active {
		s.resume()
		if s.stalled() {
			stalled = s
		}
		if s.troubled() && (troubled == nil || s.asked < troubled.asked) {
			troubled = s
		}
		if s.unreached() && (unreached == nil || s.plea < unreached.plea) {
			unreached = s
		}
		v.probe(s)
	}
	v.watch(stalled)
	v.ask(troubled)
	v.plead(unreached)
	late := v.lateHello()
	unused, more := v.surplus()
	v.armed = v.requests > 0 || v.submitted != v.seen || more
	v.seen = v.submitted
	if v.armed {
		v.timer.Reset(tick)
	}
	v.mu.Unlock()
	if late != nil {
		late.Close(errNoHello)
	}
	if unused != nil {
		unused.Close(errUnused)
	}
	v.leave()
}

// watch logs and counts the time without progress.
func (v *Volume) watch(s *shard) {
	m := v.o.Metrics
	switch {
	case s != nil && v.stalled == 0:
		v.stalled = v.now - stallTicks
		m.Stalled.Add(1)
		m.StalledTicks.Add(stallTicks)
		address, cause := "", error(nil)
		if s.primary != nil {
			address, cause = s.primary.address, s.primary.cause
		}
		v.o.Log.Warn("I/O waits", "volume", v.o.Volume, "shard", s.index, "epoch", s.record.Epoch, "primary", address,
			"outstanding", s.outstanding, "reason", s.stallReason(), "cause", cause)
	case s == nil && v.stalled != 0:
		m.Stalled.Add(-1)
		waited := time.Duration(v.now-v.stalled) * tick
		v.stalled = 0
		v.o.Log.Info("I/O goes on", "volume", v.o.Volume, "waited", waited)
	case s != nil:
		m.StalledTicks.Add(1)
	}
}

// stallReason is why nothing happens: all is sent, or what the first unsent part met.
func (s *shard) stallReason() string {
	for id := s.lowest; id < s.next; id++ {
		if p := s.find(id); p != nil && p.link == nil {
			return s.reason
		}
	}
	return "the primary does not answer"
}
