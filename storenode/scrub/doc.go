// Package scrub decides when which Extent of a Shard is looked through, so that all are within a period, without
// clients noticing.
//
// It is pure: a Pacer is asked at each tick of the storenode's clock whether an Extent is due. What is done then is
// package replication's (Machine.Scrub), who does it package shard's: the Primary of a Shard, for all members of
// InSync.
//
// # Invariants
//
//   - Extents are due evenly over the period: an idle Shard costs a few messages and reads now and then, never a burst.
//     A Pacer that was not asked for a while does not catch up faster than maxCatchUp.
//   - While clients are at work an Extent that is due waits, up to patience; so a Shard that is never idle is looked
//     through as well, and the period is kept within a factor of two.
//   - A pass begins anywhere, goes round once, and is over when every Extent was looked through.
//   - Where it begins the calendar says: each Extent has its time in the period. So whoever is Primary, however often
//     storenodes restart, all are looked through, though nothing is kept but the time of day.
//
// Concurrency: none; a Pacer belongs to the monitor of its Replica.
package scrub
