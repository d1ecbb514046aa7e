//go:build invariants

package invariant

// Dear says whether checks that cost more than a comparison are made.
const Dear = true
