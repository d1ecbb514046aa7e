//go:build !spares

package sim_test

// nodes, on each of which every Shard has a Replica.
const nodes = replicas
