package scrub

import "time"

const (
	// DefaultPass is how long one pass over a Shard takes.
	DefaultPass = 7 * 24 * time.Hour
	// patience is how often an Extent that is due is put off because clients are at work, at most; nor is it for longer
	// than one interval.
	patience = 4
	// maxCatchUp is how much faster than the period asks for a Pacer may go, after it could not.
	maxCatchUp = 2
)

// Pacer says which Extent of one Shard is to be looked through, and when. Times are readings of a monotonic clock.
type Pacer struct {
	// pass is the period, extents how many there are, interval the time between two.
	pass     time.Duration
	extents  uint32
	interval time.Duration
	// cursor is the next Extent, left how many are to come in this pass.
	cursor, left uint32
	// due is when the next one is; waited how often it was put off.
	due    time.Duration
	waited int
	// ended is when the last pass was over; passes counts them.
	ended  time.Duration
	passes uint64
}

// New begins a pass over so many Extents at now, with the one whose turn it is at that time of the calendar, counted
// since anything. Shards of different salt begin with different ones.
func New(now, pass time.Duration, extents uint32, calendar time.Duration, salt uint64) *Pacer {
	p := &Pacer{pass: pass, extents: max(extents, 1)}
	p.interval = max(pass/time.Duration(p.extents), 1)
	p.cursor, p.left = uint32((salt+uint64(max(calendar, 0)/p.interval))%uint64(p.extents)), p.extents
	p.due = now + p.interval
	return p
}

// Next is the Extent to begin with now; ok is false if none is due, or clients are at work and it can wait.
func (p *Pacer) Next(now time.Duration, busy bool) (extent uint32, ok bool) {
	if now < p.due {
		return 0, false
	}
	if busy && p.waited < patience && now < p.due+p.interval {
		p.waited++
		return 0, false
	}
	return p.cursor, true
}

// Begun says that the Extent that Next named is being looked through.
func (p *Pacer) Begun(now time.Duration) {
	p.waited = 0
	p.due = max(p.due+p.interval, now+p.interval/maxCatchUp)
	p.cursor = (p.cursor + 1) % p.extents
	if p.left--; p.left == 0 {
		p.left, p.ended = p.extents, now
		p.passes++
	}
}

// Percent of the present pass.
func (p *Pacer) Percent() int { return int(uint64(p.extents-p.left) * 100 / uint64(p.extents)) }

// Passes that were completed, and when the last was.
func (p *Pacer) Passes() (n uint64, ended time.Duration) { return p.passes, p.ended }
