package replication

import (
	"errors"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/wire"
)

// steps is how far a copy is: run by run of Blocks that were written, or were not, one after the other. All steps of a
// copy go by one Seq and are numbered, so that a copy never waits for room in the window it holds up itself.
type steps struct {
	// joiner and its attempt, for whom the copy is; nil if it is for all members.
	joiner  *member
	attempt uint64
	// number of the present step, from 1.
	number uint64
	// at and length of the present run, in bytes from the operation's offset; written says which kind.
	at, length int64
	written    bool
	// epoch of the Extent, so that a later comparison finds the copy equal.
	epoch ident.Epoch
	// retry: there was no memory to read into; at the next Tick.
	retry bool
}

// newCopy is a copy of a range to a joining member, or to all that follow.
func (m *Machine) newCopy(offset int64, length int, joiner *member) *operation {
	o := m.order.get()
	o.kind, o.internal, o.offset, o.length = kindCopy, true, offset, length
	if o.steps.joiner = joiner; joiner != nil {
		o.steps.attempt = joiner.attempt
	}
	return o
}

// copyTo are the members that a copy goes to.
func (m *Machine) copyTo(o *operation) mask {
	b := o.steps.joiner
	switch {
	case b == nil:
		return m.targets
	case b.attempt == o.steps.attempt:
		return b.bit & m.targets
	}
	return 0
}

// step begins the next step of a copy.
func (m *Machine) step(o *operation) {
	s := &o.steps
	if s.at >= int64(o.length) || m.copyTo(o) == 0 {
		m.copied(o)
		return
	}
	m.measure(o)
	s.number++
	if s.written {
		m.readStep(o)
		return
	}
	m.sendStep(o)
}

// measure finds the run that begins where the copy is, and the Epoch of its Extent.
func (m *Machine) measure(o *operation) {
	s := &o.steps
	offset := o.offset + s.at
	extent := uint32(offset / extentSize)
	within := int(offset % extentSize / ident.BlockSize)
	s.written = false
	s.length = min(extentSize-offset%extentSize, int64(o.length)-s.at)
	m.env.Written(extent, func(first, blocks int, written bool) {
		if first <= within && within < first+blocks {
			s.written = written
			s.length = min(s.length, int64(first+blocks-within)*ident.BlockSize)
		}
	})
	s.epoch = m.record.Epoch
	if s.joiner != nil {
		m.env.Extents(extent, func(d wire.ExtentDigest) bool {
			if d.Index == extent {
				s.epoch = d.Epoch
			}
			return false
		})
	}
}

func (m *Machine) readStep(o *operation) {
	o.steps.retry = false
	o.op = m.store(o, Op{Kind: Read, Offset: o.offset + o.steps.at, Length: int(o.steps.length)})
}

// stepRead takes what was read of the local Replica.
func (m *Machine) stepRead(o *operation, op *Op) {
	switch {
	case op.Err == nil:
		o.payload, op.Payload = op.Payload, nil
		m.sendStep(o)
	case errors.Is(op.Err, ErrBusy):
		o.steps.retry = true
	case o.steps.joiner != nil:
		m.broken = m.broken || !errors.Is(op.Err, ErrCorruption)
		m.unreadable = true
		m.fail(o.steps.joiner)
		m.copied(o)
	default:
		// Nobody can be made equal to what cannot be read. While claiming, another member is as good; later, this one's
		// content is what was acknowledged, and the others are the ones to leave.
		m.broken = m.broken || !errors.Is(op.Err, ErrCorruption)
		m.unreadable = true
		if m.stage == stageServing {
			m.each(m.targets, m.fail)
		}
		o.steps.retry = true
	}
}

func (m *Machine) sendStep(o *operation) {
	o.pending, o.sent = m.copyTo(o), m.patience
	m.each(o.pending, func(b *member) { m.sendTo(o, b) })
	m.progress(o)
}

// stepDone goes on to the next step.
func (m *Machine) stepDone(o *operation) {
	if o.payload != nil {
		o.payload.Release()
		o.payload = nil
	}
	o.steps.at += o.steps.length
	m.step(o)
}

// copied is the end of a copy.
func (m *Machine) copied(o *operation) {
	if !o.internal {
		m.answer(o, o.status, nil)
	}
	m.finish(o)
}

// undo makes the range of a write for which there was no space here equal on all members to what is here.
func (m *Machine) undo(o *operation) {
	if o.payload != nil {
		o.payload.Release()
		o.payload = nil
	}
	o.state, o.steps = opCopying, steps{}
	m.step(o)
}

// internalDone tells whoever began an internal operation.
func (m *Machine) internalDone(o *operation) {
	b := o.steps.joiner
	switch {
	case b == nil && o.kind == kindCopy:
		m.claim.copies--
	case b == nil:
		m.claim.flushed = true
	case o.kind == kindCopy:
		m.env.ReleaseRebuild()
		if b.attempt == o.steps.attempt {
			b.join.copies--
		}
	case b.attempt == o.steps.attempt:
		b.join.flushed = o.status == wire.StatusOK
	}
}
