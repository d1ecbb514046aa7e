package client

import (
	"fmt"

	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// answered takes the answer to a part. What a read has found is as good by another connection than the last: whoever
// gave it was allowed to at that moment. The outcome of a change is not: the copy on its way by the last one might be
// carried out when a later change of the same Blocks has been. Nor is an error, which another may not have.
func (v *Volume) answered(l *link, f *transport.Frame) error {
	s := &v.shards[f.Shard.Index]
	p := s.find(f.Request)
	if p == nil {
		return nil // answered before, by another way
	}
	if f.Opcode != p.request.Op.opcode() {
		return fmt.Errorf("answer by operation %d: %w", f.Opcode, errRole)
	}
	switch f.Status {
	case wire.StatusStaleEpoch, wire.StatusNotPrimary:
		return v.redirected(l, s, p, f)
	case wire.StatusNotFound:
		if p.link == l {
			s.later(p, "the storenode has no such replica")
		}
	case wire.StatusBusy:
		v.o.Metrics.Busy.Add(1)
		if p.link == l {
			s.later(p, "the primary is busy or not ready")
		}
	case wire.StatusTooFew:
		v.tooFew(l, p, f)
	case wire.StatusFenced:
		v.fenced()
	default:
		if p.link == l || f.Status == wire.StatusOK && !p.request.Op.changes() {
			return v.outcome(p, f)
		}
	}
	return nil
}

// outcome ends p as f says.
func (v *Volume) outcome(p *part, f *transport.Frame) error {
	switch f.Status {
	case wire.StatusOK:
		return v.succeeded(p, f)
	case wire.StatusNoSpace:
		v.finish(p, ErrNoSpace)
	case wire.StatusIO:
		v.finish(p, ErrIO)
	case wire.StatusCorruption:
		v.finish(p, ErrCorruption)
	case wire.StatusInvalid:
		v.finish(p, ErrInvalid)
	default:
		v.finish(p, fmt.Errorf("status %d: %w", f.Status, ErrInvalid))
	}
	return nil
}

// succeeded ends p, and puts what was read where it belongs.
func (v *Volume) succeeded(p *part, f *transport.Frame) error {
	r := p.request
	if r.Op == OpRead {
		if f.Payload == nil || f.Payload.Len() != p.length {
			return fmt.Errorf("read of %d bytes answered with %d: %w", p.length, f.PayloadLength, errRole)
		}
		if p.length == r.Length {
			f.Payload.DropSums()
			r.Buffer, f.Payload = f.Payload, r.Buffer // the caller of this function releases the latter
		} else {
			copy(r.Buffer.Bytes()[p.at:p.at+p.length], f.Payload.Bytes())
		}
	}
	s := p.shard
	v.finish(p, nil)
	if s.short && r.Op.changes() {
		s.enough()
	}
	return nil
}

// tooFew has a change wait for which too few Replicas are in sync, and fails it after tooFewTicks. Its last try ended
// with this answer. But a storenode forgets what it turned away, so a copy that it has yet to read from a connection
// that was lost would be carried out as a new change, maybe after a later one of the same Block. Time alone prevents
// that: tooFewTicks begin anew when a connection with a copy is lost, and long before they are over, keep-alive has
// ended that connection at the storenode too. Copies for an earlier Epoch are refused.
func (v *Volume) tooFew(l *link, p *part, f *transport.Frame) {
	s := p.shard
	v.o.Metrics.TooFew.Add(1)
	if p.link != l {
		return
	}
	if p.refused == 0 {
		p.refused = v.now
	}
	err := fmt.Errorf("shard %d: %d replicas are in sync, minInSync is %d: %w", s.index, f.Seq, f.Committed, ErrTooFew)
	if !s.short {
		s.short = true
		v.o.Log.Warn("Changes wait", "volume", v.o.Volume, "error", err)
	}
	if v.now-p.refused < tooFewTicks {
		s.pause(p, p.pause+tooFewStep, tooFewPause, "too few replicas are in sync")
		return
	}
	v.o.Log.Warn("A change failed", "volume", v.o.Volume, "waited", tooFewTicks*tick, "error", err)
	v.finish(p, err)
}

// redirected sends p to whom the answer names, at once if it was sent by an older Record than is known now; if there is
// no news, a little later.
func (v *Volume) redirected(l *link, s *shard, p *part, f *transport.Frame) error {
	v.o.Metrics.Redirects.Add(1)
	last := p.link == l
	if last {
		s.later(p, "the storenode is not primary, or not yet")
	}
	if f.Payload != nil {
		r, err := wire.DecodeRecord(f.Payload.Bytes())
		if err != nil {
			return err
		}
		s.adopt(r, false)
	}
	if last && p.link == nil && p.epoch < s.record.Epoch {
		p.retry, p.pause = 0, 0
		s.send(p)
	}
	return nil
}
