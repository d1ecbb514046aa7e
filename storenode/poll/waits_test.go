package poll_test

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/poll"
)

func TestOnlyALoopThatWaitedBrieflyLooksBeforeItSleeps(t *testing.T) {
	const brief, long = 5 * time.Microsecond, 100 * time.Microsecond
	many := func(n int, lasted ...time.Duration) []time.Duration { return slices.Repeat(lasted, n) }
	for name, c := range map[string]struct {
		lasted []time.Duration
		// looks of the waits after the first 20.
		looks int
	}{
		"at rest":                                {many(60, long), 0},
		"busy":                                   {many(60, brief), 40},
		"every other wait is brief":              {many(30, brief, long), 40},
		"every fourth is":                        {many(15, brief, long, long, long), 40},
		"every eighth is":                        {many(8, brief, long, long, long, long, long, long, long), 0},
		"load ends, and soon the looking":        {append(many(20, brief), many(40, long)...), 13},
		"one burst among waits that are long":    {append(many(20, long), brief, brief, brief, long, long), 0},
		"load begins, and with its fourth looks": {append(many(20, long), many(10, brief)...), 6},
	} {
		looks := 0
		for _, l := range poll.LooksFirst(c.lasted...)[20:] {
			if l {
				looks++
			}
		}
		if looks != c.looks {
			t.Errorf("%s: looks before %d waits, want %d", name, looks, c.looks)
		}
	}
}

// A loop that looks must hear of everything that one hears of that sleeps: events that are there, that come while it
// looks, and that come when it has given up.
func TestWhatComesIsServedHoweverLongItTookToCome(t *testing.T) {
	a, b := pair(t)
	join(t, a, echo(a))
	for i := range 300 {
		if i%3 == 0 {
			time.Sleep(time.Duration(i) * time.Microsecond) // longer and longer than a loop looks
		}
		if _, err := unix.Write(b, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if got := read(t, b); got != "hello" {
			t.Fatalf("got %q", got)
		}
	}
	_ = unix.Close(b)
}
