package mem

import (
	"errors"
	"maps"
	"math/rand/v2"

	"github.com/shale-storage/shale/storenode/engine"
)

// ErrUnreadable completes a read of what a loss of power left unreadable.
var ErrUnreadable = errors.New("unrecovered read error")

// Whims are what a Device may do and a kind one does not; its users must live with all of them (package engine).
type Whims struct {
	// Chance decides each time; nil for a Device that is kind.
	Chance *rand.Rand
	// Early: a request may have its effect long before it completes.
	Early bool
	// Discards: what was discarded reads as what it was, zeros or garbage, now this and now that, until it is written.
	Discards bool
	// Unreadable: of a write that was not flushed a loss of power may leave blocks that cannot be read until they are
	// written again.
	Unreadable bool
}

// SetWhims changes what the Device does from now on, and those that a Crash or Kill leaves.
func (d *Device) SetWhims(w Whims) { d.whims = w }

// medium is contents, and what is the matter with them.
type medium struct {
	pages sparse
	// discarded pages may read as anything; unreadable blocks do not, by their numbers. Both end with a write.
	discarded, unreadable map[int64]struct{}
}

func (m *medium) copied() medium {
	return medium{pages: m.pages.copied(), discarded: maps.Clone(m.discarded), unreadable: maps.Clone(m.unreadable)}
}

func mark(set *map[int64]struct{}, number int64) {
	if *set == nil {
		*set = map[int64]struct{}{}
	}
	(*set)[number] = struct{}{}
}

// change is what a request did to a range of the Device, and what a loss of power may undo until it is flushed.
type change struct {
	// from and to in bytes; parts of a write, none for a discard.
	from, to int64
	parts    []part
	// done is the place of its completion among those of all changes; 0 before.
	done int64
}

func (c *change) overlaps(o *change) bool { return c.from < o.to && o.from < c.to }

// put makes a change the contents.
func (m *medium) put(c *change, blockSize int64) {
	for _, p := range c.parts {
		m.pages.put(p)
		if p.to-p.from == pageSize {
			delete(m.discarded, p.number)
		}
	}
	if c.parts == nil { // of pages that are not discarded as a whole nothing happens
		for n := (c.from + pageSize - 1) / pageSize; (n+1)*pageSize <= c.to; n++ {
			mark(&m.discarded, n)
		}
		return
	}
	m.readable(c.from, c.to, blockSize)
}

func (m *medium) readable(from, to, blockSize int64) {
	for n := from / blockSize; len(m.unreadable) > 0 && n < to/blockSize; n++ {
		delete(m.unreadable, n)
	}
}

// fates of a change that a loss of power meets.
const (
	lost = iota
	kept
	torn
	unreadable
	kindFates = unreadable
)

// survive lets chance decide: all of a change, nothing, some of its sectors, or blocks that cannot be read.
func (m *medium) survive(c *change, blockSize int64, whims Whims, chance *rand.Rand) {
	fates := kindFates
	if whims.Unreadable {
		fates++
	}
	switch fate := chance.IntN(fates); {
	case fate == kept || fate != lost && c.parts == nil:
		m.put(c, blockSize)
	case fate == torn:
		m.tear(c, blockSize, chance)
	case fate == unreadable:
		m.tear(c, blockSize, chance)
		for n := c.from / blockSize; n < c.to/blockSize; n++ {
			if chance.IntN(2) == 0 {
				mark(&m.unreadable, n)
			}
		}
	}
}

// tear keeps some sectors of a write.
func (m *medium) tear(c *change, blockSize int64, chance *rand.Rand) {
	m.readable(c.from, c.to, blockSize)
	for _, p := range c.parts {
		if _, ok := m.discarded[p.number]; ok {
			m.scribble(p.number, chance)
			delete(m.discarded, p.number)
		}
		for from := p.from; from < p.to; from += sector {
			if chance.IntN(2) == 0 {
				m.pages.put(part{number: p.number, from: from, to: min(from+sector, p.to), page: p.page})
			}
		}
	}
}

// scribble has a page that was discarded be something else by chance.
func (m *medium) scribble(number int64, chance *rand.Rand) {
	const keep, zero, fates = 0, 1, 3
	whole := part{number: number, to: pageSize}
	switch chance.IntN(fates) {
	case keep:
		return
	case zero:
	default:
		whole.page = make(page, heads[0]+tail)
		for i := range whole.page {
			whole.page[i] = byte(chance.Uint32())
		}
	}
	m.pages.put(whole)
}

// read is what a read of a range finds.
func (m *medium) read(into []byte, offset, blockSize int64, chance *rand.Rand) error {
	end := offset + int64(len(into))
	if chance != nil && len(m.discarded) > 0 {
		for n := offset / pageSize; n*pageSize < end; n++ {
			if _, ok := m.discarded[n]; ok {
				m.scribble(n, chance)
			}
		}
	}
	if len(m.unreadable) > 0 {
		for n := offset / blockSize; n*blockSize < end; n++ {
			if _, ok := m.unreadable[n]; ok {
				return ErrUnreadable
			}
		}
	}
	m.pages.read(into, offset)
	return nil
}

// flush makes durable what had completed when so many had. Of what was on its way then, or came later, only that goes
// with it which something durable was put over: else it would come back from below.
func (d *Device) flush(completed int64) {
	durable := make([]bool, len(d.unflushed))
	var over []*change
	for i := len(d.unflushed) - 1; i >= 0; i-- {
		c := d.unflushed[i]
		durable[i] = c.done > 0 && c.done <= completed
		for j := 0; j < len(over) && !durable[i]; j++ {
			durable[i] = c.overlaps(over[j])
		}
		if durable[i] {
			over = append(over, c)
		}
	}
	left := d.unflushed[:0]
	for i, c := range d.unflushed {
		if durable[i] {
			d.durable.put(c, int64(d.info.BlockSize))
		} else {
			left = append(left, c)
		}
	}
	clear(d.unflushed[len(left):])
	d.unflushed = left
}

// apply puts what a request does over the contents.
func (d *Device) apply(r *engine.Request) *change {
	c := &change{from: r.Offset, to: r.Offset + int64(len(r.Buf))}
	if r.Op == engine.OpDiscard {
		c.to = r.Offset + r.Length
	} else {
		for p := range split(r.Buf, r.Offset) {
			c.parts = append(c.parts, p)
		}
	}
	d.content.put(c, int64(d.info.BlockSize))
	d.unflushed = append(d.unflushed, c)
	return c
}
