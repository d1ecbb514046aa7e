// Package placement decides which Devices take the Replicas of a Shard, or says why none can.
//
// It is pure: it sees what its caller gathered (Devices, their free space, their failure domains), and the same input
// always gives the same answer. There is no randomness; equal candidates are told apart by a hash of the Shard's name,
// so that Shards spread although nobody draws lots.
//
// # Invariants
//
// Replicas of one Shard are in different failure domains, and so never on one node: a node is in exactly one domain.
// Those that are being replaced do not count: theirs may be the only domain that is left.
// What one decision takes of a Device is gone for all later ones of the same Planner. A Planner that cannot place all
// Replicas of a Shard takes nothing.
//
// # Choice
//
// The domain that could still hold the most Shards of this size gets the next Replica, and in it the Device with the
// most free space. For Shards of one size this finds places for all of them whenever there are any (the counting
// argument of Gale and Ryser); the test compares it with that formula.
//
// The first Device of an answer is where the Primary should be: the one whose node has the fewest Primaries so far.
//
// # Failure
//
// *NoRoomError has, for a person, why each candidate is none. It reaches the event of a PersistentVolumeClaim.
package placement
