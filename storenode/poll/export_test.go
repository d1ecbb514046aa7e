package poll

import "time"

// LooksFirst says of each wait, were they the first of a loop, whether it would begin with looking.
func LooksFirst(lasted ...time.Duration) []bool {
	var w waits
	var looks []bool
	for _, d := range lasted {
		looks = append(looks, w.beginWithLooking())
		w.add(d)
	}
	return looks
}
