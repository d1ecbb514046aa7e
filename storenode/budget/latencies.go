package budget

import (
	"math/bits"
	"time"
)

const (
	// steps of a power of two: a quantile is at most a quarter too high.
	steps = 4
	// unit is the shortest latency that is told from 0.
	unit = time.Microsecond
	// powers of two of units that are told apart: a minute and more is one.
	powers = 26
)

// Latencies counts latencies by size. The zero value is ready.
type Latencies struct {
	counts [powers * steps]uint32
	n      int
}

// Add counts one.
func (l *Latencies) Add(d time.Duration) {
	l.counts[slot(d)]++
	l.n++
}

func slot(d time.Duration) int {
	u := uint64(max(d, 0) / unit)
	if u < steps {
		return int(u)
	}
	power := bits.Len64(u) - 1 // at least 2
	within := int(u>>(power-2)) & (steps - 1)
	return min((power-1)*steps+within, powers*steps-1)
}

// upper is the end of what a slot counts.
func upper(slot int) time.Duration {
	if slot < steps {
		return time.Duration(slot+1) * unit
	}
	power, within := slot/steps+1, slot%steps
	return time.Duration(uint64(steps+within+1)<<(power-2)) * unit
}

// Merge adds what another has counted, and empties it.
func (l *Latencies) Merge(from *Latencies) {
	if from.n == 0 {
		return
	}
	for i, c := range from.counts {
		l.counts[i] += c
	}
	l.n += from.n
	*from = Latencies{}
}

// Count is how many there are.
func (l *Latencies) Count() int { return l.n }

// Quantile is what a part of all do not exceed; 0 if there are none.
func (l *Latencies) Quantile(part float64) time.Duration {
	if l.n == 0 {
		return 0
	}
	rest := int(float64(l.n)*(1-part)) + 1 // how many may be at or above it
	for i := len(l.counts) - 1; i >= 0; i-- {
		if rest -= int(l.counts[i]); rest <= 0 {
			return upper(i)
		}
	}
	return upper(0)
}
