// Package inventory gathers what decisions need: Devices with their free space and failure domains, the Shards on
// them, storenodes and whether they live.
//
// It reads the manager's cache by indexes, never the API server, and keeps sums by Device that setup feeds from the
// same cache's events. As the cache is a little behind, it also remembers the
// places this process has given away and does not see there yet (the ledger): a later decision counts them as well.
//
// # Free space
//
// A Device may promise capacity × overcommit. Of that is taken the larger of two sums: what its storenode says is
// reserved, which lags behind by seconds, and the sizes of all Replicas that Shard objects and the ledger put
// there, which does not know Replicas whose Shard has moved on and that are not deleted yet. The storenode has
// the last word when it reserves: if it refuses, the Replica goes elsewhere. csi/volumes estimates GetCapacity by
// the same rule from what the Devices say.
//
// # Concurrency
//
// Safe for concurrent use. A Pass excludes other Passes from Begin to End; nothing is written to the API meanwhile.
package inventory
