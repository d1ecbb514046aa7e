// Package inspect reads a Device offline: Show tells people what it holds, Check verifies it and all written Blocks.
//
// Both recover the Device's state in memory, as opening it would, and write nothing. A Device that is in use is
// refused: what is read of it would be torn.
//
// Check holds these invariants: both superblock copies are right and the newest Checkpoint is; each allocated Extent
// has one owner that knows it at one place within its size; the counts of space add up; each written Block matches
// its checksum. A breach of any is printed and makes Check fail with ErrBroken.
package inspect
