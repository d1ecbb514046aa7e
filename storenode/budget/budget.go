package budget

import "time"

// MinRate and MaxRate bound a Rebuild, in bytes a second.
const (
	MinRate = 4 << 20
	MaxRate = 16 << 30
)

const (
	// firstRate is where it begins: little, as clients may be at work.
	firstRate = 32 << 20
	// burst is how much may be taken at once, in time at the present rate.
	burst = 100 * time.Millisecond
	// Window is how long latencies are gathered; windowRequests how many are enough before.
	Window         = 500 * time.Millisecond
	windowRequests = 1000
	// fewRequests in a window tell nothing: the clients are at rest.
	fewRequests = 20
	// The rate grows below growBelow times p99 as it is without a Rebuild, and is halved above halveAbove times that.
	growBelow, halveAbove = 1.25, 1.6
	// noise is what p99 may be whatever it was: no client feels the difference.
	noise = 500 * time.Microsecond
	// tail is the quantile that counts.
	tail = 0.99
)

// Budget is how fast the storenode may copy. Make it with New.
type Budget struct {
	rate float64
	// tokens are bytes that may be taken, as of at.
	tokens float64
	at     time.Duration
	// window gathers since began; rebuilt says that something was copied in it.
	window  Latencies
	began   time.Duration
	rebuilt bool
	// usual is p99 without a Rebuild, 0 if unknown; best the lowest p99 of this Rebuild.
	usual, best time.Duration
}

// New is a Budget at the beginning of its first window.
func New(now time.Duration) *Budget {
	return &Budget{rate: firstRate, at: now, began: now}
}

// Rate is how fast may be copied now, in bytes a second.
func (b *Budget) Rate() int64 { return int64(b.rate) }

// Take asks for so many bytes. What is larger than a burst is paid for afterwards.
func (b *Budget) Take(now time.Duration, bytes int) bool {
	limit := b.rate * burst.Seconds()
	b.tokens = min(b.tokens+b.rate*(now-b.at).Seconds(), limit)
	b.at = now
	b.rebuilt = true
	if b.tokens <= 0 {
		return false
	}
	b.tokens -= float64(bytes)
	return true
}

// Observe takes what was gathered since the last call, and emptied; it ends the window when it is time.
func (b *Budget) Observe(now time.Duration, l *Latencies) {
	b.window.Merge(l)
	if now-b.began < Window && b.window.Count() < windowRequests {
		return
	}
	count, p99 := b.window.Count(), b.window.Quantile(tail)
	switch {
	case !b.rebuilt:
		b.idle(count, p99)
	case count < fewRequests:
		b.grow(b.rate / 2)
	default:
		b.adapt(p99)
	}
	b.window, b.began, b.rebuilt = Latencies{}, now, false
}

// idle learns what is usual; the next Rebuild begins carefully.
func (b *Budget) idle(count int, p99 time.Duration) {
	b.best = 0
	b.rate = min(b.rate, firstRate)
	switch {
	case count < fewRequests:
	case b.usual == 0:
		b.usual = p99
	default:
		b.usual += (p99 - b.usual) / 8
	}
}

func (b *Budget) adapt(p99 time.Duration) {
	if b.best == 0 || p99 < b.best {
		b.best = p99
	}
	b.best += b.best / 1024 // clients change
	usual := b.usual
	if usual == 0 {
		usual = b.best
	}
	usual = max(usual, noise)
	switch {
	case float64(p99) > halveAbove*float64(usual):
		b.rate = max(b.rate/2, MinRate)
	case float64(p99) < growBelow*float64(usual):
		b.grow(b.rate / 8)
	}
}

func (b *Budget) grow(by float64) { b.rate = min(b.rate+max(by, MinRate), MaxRate) }
