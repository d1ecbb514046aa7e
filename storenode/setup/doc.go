// Package setup puts the parts of a storenode together: its commands and flags, the Devices by io_uring, connections by
// TCP, the Host, the agent, the ticker and the endpoint for health and metrics.
//
//	storenode run              serve the Devices that Pools select on this node
//	storenode inspect DEVICE   what a Device holds, offline
//	storenode check DEVICE     the same, and whether all of it is right; ends with an error if not
//
// # Which Devices are touched
//
// A candidate is opened exclusively and only looked at (probe.go). One that is mounted, has partitions or holders, is
// in use by another process or holds anything but zeros or our own Superblock is foreign: nothing is ever written to
// it. Only an empty one is formatted.
//
// # Failure and end
//
// At SIGTERM everything that is served here is handed over first: Primaries move to other nodes, Replicas leave InSync
// (shard.Host.Leave), within --hand-over-timeout; what cannot be spared then is served until its end. Then connections
// are closed, so that peers notice at once, and each Device gets a last Checkpoint. After the start /readyz fails until
// the Devices of all Pools have been looked at, those that can be opened are, and all Replicas here are in sync again,
// so a rollout ends no second storenode before.
// A second signal, or SIGKILL, costs a replay of the Journal at the next start, nothing else. If the agent ends, the
// process ends, and is started anew by the kubelet.
package setup
