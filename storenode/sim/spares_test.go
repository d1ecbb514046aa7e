package sim_test

// nodes, one of which each Shard has no Replica on.
const nodes = replicas + 1
