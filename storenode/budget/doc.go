// Package budget decides how fast a storenode brings Replicas in sync, so that clients hardly notice: their p99 during
// a Rebuild is to stay below twice that without one.
//
// Latencies gathers how long clients' requests take; Budget is told of each window and raises or lowers the rate:
// a little more while p99 is near what it is without a Rebuild, half as soon as it is not. While clients are at rest
// the rate grows until nothing but the Devices bounds it. A Rebuild is never slower than MinRate, so it ends.
//
// What p99 is without a Rebuild is learnt while there is none, slowly; if that was never, the best window counts.
//
// It is pure: times are readings of a monotonic clock, and the caller guards it.
package budget
