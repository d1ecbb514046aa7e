//go:build mutants

package mutant

// Now is the rule that is broken. Set by one test at a time.
var Now = None
