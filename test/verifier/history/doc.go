// Package history tells from the log of a run of verifier which versions each Block may hold.
//
// # The rule
//
// A Block is an atomic register. Positions in the log are the order of events: an operation is known to be before
// another if its end is logged before the other's begin. A version is possible as long as nothing that came after it
// is known to have happened:
//
//   - an acknowledged write removes each version whose write had ended before that write began;
//   - a version that was read removes each other whose write had ended before that read began.
//
// Writes in flight stay possible whatever else happens, as do both of two that overlapped, until a read tells. When
// their process has ended and a new attachment is open they are over, whether they happened or not: nothing may bring
// them into being afterwards. That is what an old generation's Fence promises.
//
// # Concurrency
//
// A History has no lock; its user appends to the log and applies the entry under one of its own, so that both have the
// same order.
package history
