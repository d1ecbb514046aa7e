// Package mutant breaks one rule of replication at a time, to prove that the checkers of the simulator and of the
// cluster test see it. In products, built without the tag `mutants`, Now is the constant None, and the compiler leaves
// nothing of the rest.
package mutant

// Mutant names the rule that is broken.
type Mutant uint8

// The mutants.
const (
	None Mutant = iota
	// AckEarly acknowledges a write when the Primary alone has it.
	AckEarly
	// SkipCAS takes a member that failed for evicted, without asking the keeper of records.
	SkipCAS
	// SkipReconcile serves without making the members equal.
	SkipReconcile
	// SkipPromise takes over without waiting for the promise made to the former Primary, and serves without leases.
	SkipPromise
	// SkipDedupe applies what is sent twice, twice.
	SkipDedupe
	// JoinEarly adds a Replica to InSync without comparing and copying.
	JoinEarly
	// FollowAnyone lets a Backup take writes of an older Epoch.
	FollowAnyone
)
