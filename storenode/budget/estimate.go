package budget

import "time"

// Whole is the progress of what is done.
const Whole = 10000

// Estimate guesses when something will be done from how far it came so far. The zero value is ready.
type Estimate struct {
	begun    bool
	at, last time.Duration
	from, to int
}

// See notes the progress, of Whole. One that goes back begins anew.
func (e *Estimate) See(now time.Duration, progress int) {
	if !e.begun || progress < e.to {
		*e = Estimate{begun: true, at: now, from: progress}
	}
	e.last, e.to = now, progress
}

// Forget begins anew at the next progress.
func (e *Estimate) Forget() { *e = Estimate{} }

// Left is the time that is expected to be left; ok is false while nothing can be said.
func (e *Estimate) Left() (left time.Duration, ok bool) {
	if e.to <= e.from {
		return 0, false
	}
	return time.Duration(float64(e.last-e.at) / float64(e.to-e.from) * float64(Whole-e.to)), true
}
