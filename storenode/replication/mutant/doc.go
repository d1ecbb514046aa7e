// Package mutant breaks one rule of the data plane at a time, to prove that the checkers of the simulator and of the
// cluster test see it. In products, built without the tag `mutants`, Now is the constant None, and the compiler leaves
// nothing of the rest.
//
// A rule is broken by one condition where it is kept: in packages replication and store, and, for the operator's rule,
// in the simulator's model of the operator.
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
	// PromoteStale makes a Replica Primary that is not in InSync.
	PromoteStale
	// IgnoreGeneration takes writes of an attachment that a newer one has replaced.
	IgnoreGeneration
	// ServeExpired serves without leases.
	ServeExpired
	// LoseFlush has Backups acknowledge a flush without one.
	LoseFlush
	// ForgetDelta passes over the Extents that were changed while a Replica was away.
	ForgetDelta
	// SkipChecksum takes what a Device reads as it is.
	SkipChecksum
	// AckTooFew acknowledges changes however few Replicas are in sync.
	AckTooFew
	// ForgetRecord has recovery pass over membership records in the Journal, ForgetGeneration over generations.
	ForgetRecord
	ForgetGeneration
)
