// Package invariant stops a storenode that finds one of its own promises broken.
//
// Going on would carry the damage to other Replicas; a restart recovers from what is known to be good. Check is for
// mistakes of our own only: bytes from the wire, from a Device or from a user are answered with errors and never
// reach it. Checks that cost more than a comparison are written as `if invariant.Dear { … }` and run under the build
// tag `invariants`.
package invariant

import "fmt"

// Check panics with the message unless ok.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
