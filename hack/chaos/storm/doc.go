// Package storm lets the faults of a plan fall on a lab in which pods write through Shale, and says whether anything
// was lost.
//
// A round is one or two faults, their end, and the wait until all is as before: nodes ready, each Shard with all its
// Replicas InSync, each writer writing. What does not get there within settleWithin is a failure like a lost byte is.
//
// # Who watches
//
// test/verifier, in a pod for each writer, judges what it reads while it runs. Its log and its report lie in a
// directory of the host, which no fault reaches and which is read here without Kubernetes. A lost write that it finds
// at any moment, its last included, is the end of the run. So is any other end of a writer, unless the fault is one
// that may end it: see excuse. Such a writer is started again on the same log; it reads every Block before it goes on.
// All writers are looked at before a fault too, with no excuse. At the end each Volume is compared on a node where it
// was not written.
//
// # Failure
//
// Save keeps everything a person needs to find the cause, since the lab is taken down.
package storm
