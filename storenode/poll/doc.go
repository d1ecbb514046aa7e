// Package poll waits for sockets and rings on a few goroutines of its own, and calls whoever waits for them.
//
// A storenode does little for each event and waits often. Go's scheduler is made for the opposite: a goroutine that
// waits for a socket costs a read that finds nothing, several looks into the poller, and often the waking of a second
// thread. A loop here costs one epoll_wait: it reads what has arrived, carries it through the Machine, hands it to the
// Device or the next socket, and sleeps again, mostly on one thread. A ring's completions come to the thread that
// submitted, which is the same as a rule.
//
//	epoll_wait ─ Ready of each descriptor: read ─ Frame … Idle ─ sendmsg, io_uring_enter
//	    ▲                                                               │
//	    └───────────────────────────────────────────────────────────────┘
//
// A loop that has waited briefly of late looks for events a little while before it sleeps, as sleeping and waking cost
// more than the wait (docs/adr/2026-11-26-looking-before-sleeping.md); one at rest just sleeps.
//
// # Concurrency
//
// There is one loop for each loopShare processors; a descriptor stays with the loop it joined, and Ready is called by
// that loop only, one after the other. So Ready must not wait for anything but a mutex that is held shortly: what it
// waits for might need the same loop. Join and Want may be called from any goroutine, Again and Leave from Ready only.
// A loop ends with its last descriptor.
//
// # Failure
//
// Join fails when the kernel has no room. After that nothing fails: a descriptor in error is Hung, and says the rest
// when it is read.
package poll
