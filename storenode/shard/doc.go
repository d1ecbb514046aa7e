// Package shard is what the agent and the data plane ask of each other about the Shards of one storenode.
//
// Manager is implemented by the side that serves Shards, Authority by the keeper of membership records: the agent in
// a cluster, something simpler in tests. The record of a Shard changes only through Authority.Propose, by
// compare-and-swap; a Record older than what a Replica has seen is refused with ErrStaleRecord.
package shard
