// Command verifier writes through a file or block device, keeps a log of each acknowledged write elsewhere, and checks
// while it runs and later that none is lost.
//
//	verifier write --path FILE|DEVICE --log LOG --size BYTES [--depth 16] [--seconds N] [--pace DURATION]
//	               [--prefill] [--same-crc] [--report FILE]
//	verifier check --path FILE|DEVICE --log LOG
//	verifier fill  --path FILE|DEVICE --size BYTES
//
// write runs until it is told to stop (SIGTERM) or its time is over and prints one line of JSON a second: what was
// acknowledged, the longest single operation and the longest time without any acknowledgement. Its workers write,
// read back and flush, from one to maxBlocks Blocks at a time, and get in each other's way on purpose: a share of all
// operations falls on a few Blocks. check prints one line and exits with 1 if a Block is older than it may be, newer
// than what was ever sent, or anything else. fill writes until there is no space left, which is what it is for.
//
// # How it knows
//
// Each write of a Block has a version of its own, ever growing, and bytes made from number and version: torn, misplaced
// and stale Blocks all show. The log holds an entry before and after each write, and one for each Block that was read;
// it must lie on storage that does not fail with what is tested. Package history derives from it which versions a
// Block may hold: the rules of a linearizable register. A write without an answer may or may not have happened, but
// what was read once stays.
//
// A log may be continued by another run, on another node. It first reads every Block, so that what the last run left
// without an answer is settled: a version seen then may not change any more by itself.
//
// All I/O is O_DIRECT, so an acknowledgement is the device's. An error ends the run: a device under failover is to be
// slow, not to fail. What was under way at the end, of whatever cause, is waited for and judged; the line that has
// "ended" comes after that, and the exit code is 1 if anything was wrong. In a file that is not yet allocated, an
// acknowledged write is not safe from the loss of the node before the filesystem has committed that it is there;
// --prefill writes all Blocks and flushes them first.
package main
