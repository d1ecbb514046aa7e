package pace

import (
	"time"

	"github.com/shale-storage/shale/storenode/membership"
)

const (
	// Factor is how many times as long as all the others the last copy takes that drags a change.
	Factor = 8
	// Floor is the least it takes; a flash Device that is well does not come near.
	Floor = 100 * time.Millisecond
	// Window is how long changes are gathered.
	Window = 5 * time.Second
	// Changes are the fewest in a window.
	Changes = 20
	// Share of the changes that a copy that is too slow drags: one in so many.
	Share = 4
	// Windows that it does so in, one after the other.
	Windows = 2
	// Self is the place of the one that compares; the others have those below.
	Self = membership.MaxReplicas
	// None is the place of nobody.
	None = -1
)

// Pace compares the copies of one Shard. The zero value is ready, with a window that began at 0.
type Pace struct {
	since   time.Duration
	changes int
	// dragged counts changes by the place of the copy that was last, slow the windows in a row.
	dragged, slow [Self + 1]int
}

// Begin starts over.
func (p *Pace) Begin(now time.Duration) { *p = Pace{since: now} }

// Ended takes a change: the copy at place was last to have it, so long after it began; all others had it after others.
func (p *Pace) Ended(place int, last, others time.Duration) {
	p.changes++
	if last >= Floor && last >= Factor*others {
		p.dragged[place]++
	}
}

// Judge names the place of a copy that is too slow, or None; asked now and then.
func (p *Pace) Judge(now time.Duration) int {
	if now-p.since < Window || p.changes < Changes {
		return None
	}
	worst := None
	for i, n := range p.dragged {
		if n*Share < p.changes {
			p.slow[i] = 0
			continue
		}
		if p.slow[i]++; p.slow[i] >= Windows {
			worst = i
		}
	}
	if worst != None {
		p.Begin(now)
		return worst
	}
	p.since, p.changes, p.dragged = now, 0, [Self + 1]int{}
	return None
}
