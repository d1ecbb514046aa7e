// Package plan draws from a seed which faults come, where and for how long. It does nothing itself.
//
// # What it never draws
//
// docs/fault-model.md says what Shale survives, and a plan stays within that. A second fault may begin while the first
// lasts, on another node, when both leave every Device with what it has: processes that end or stand still, links.
// Loss of power and a Device that fails or is missing come alone: with them a Replica leaves InSync for longer than the
// fault, and the next fault is drawn only when everything is InSync again.
//
// Pure: the same seed draws the same faults. When they happen depends on the machine.
package plan
