// Package shardtest stands for Kubernetes in tests and benchmarks of Hosts: Register keeps the membership records in
// memory, decides proposals by compare-and-swap as the API server would, and promotes as the operator would.
//
// Concurrency: everything is done by one goroutine, in order, so that no call into a Host happens inside another one's
// monitor; Close ends it.
package shardtest
