package poll

import (
	"math/bits"
	"time"
)

const (
	// brief is how long a loop looks for events before it sleeps: about what it costs to fall asleep and be woken, so
	// that looking in vain costs no more than sleeping in vain.
	brief = 40 * time.Microsecond
	// worthwhile is how many of the last 16 waits must have been brief for the next to begin with looking.
	worthwhile = 4
)

// waits are the last 16 of a loop, the last one in the lowest bit: 1 if it was brief.
type waits uint16

func (w *waits) add(d time.Duration) {
	*w <<= 1
	if d <= brief {
		*w |= 1
	}
}

// beginWithLooking says whether the next wait is likely to be brief as well.
func (w waits) beginWithLooking() bool { return bits.OnesCount16(uint16(w)) >= worthwhile }
