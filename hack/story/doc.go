// Package story is what a user of Shale goes through, step by step, on a real Kubernetes: install, claim, write, lose a
// storenode, go on, move, check every byte, delete. `make demo` tells it to people, `make e2e` runs it as a test.
//
// Faults are further steps for the test alone: a node loses its power, and its cable.
//
// Each step checks what it claims and returns an error otherwise; what a step saw is kept in Facts for the summary. The
// steps expect to run in order; all of them can be interrupted through their context.
package story
