// Package setup assembles the operator: flags, manager, caches, reconcilers and what wakes them. It is the only
// package of the operator with real time in it.
//
// Of several operators one leads; the others have their caches warm. The lead is given up on a clean end, and lost
// within seconds otherwise; while nobody leads, I/O goes on and memberships stand still.
package setup
