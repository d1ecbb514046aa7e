// Package apart makes calls that a Device can hold up for as long as it hangs: to open it, to ask for its size, to look
// at what is on it.
//
// The kernel ends a request of a ring on the thread that submitted it. It can interrupt most waits for that, not those
// of a thread that waits for a Device. Any goroutine may have submitted something on the thread it runs on now, so a
// call that hangs there would hold up requests to Devices that are well, until the other one answers. Hence a thread
// is taken out of use for others first, and rests before the call until what was submitted on it has ended: this one
// too may be one on which something has just been submitted.
package apart

import (
	"runtime"
	"time"
)

// rest is longer than a Device that is well takes for a request.
const rest = 50 * time.Millisecond

// Call has f called on a thread that does nothing else meanwhile, and waits for it. f must not submit anything.
func Call(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		// Given back, as the kernel cancels what a thread that ends has submitted.
		defer runtime.UnlockOSThread()
		time.Sleep(rest) //nolint:forbidigo // the kernel does not tell when it is done
		f()
	}()
	<-done
}
