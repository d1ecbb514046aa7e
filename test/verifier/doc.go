// Command verifier writes through a file or block device, keeps a log of each acknowledged write elsewhere, and checks
// later that none is lost.
//
//	verifier write --path FILE|DEVICE --log LOG --size BYTES [--depth 16] [--seconds N] [--pace DURATION]
//	verifier check --path FILE|DEVICE --log LOG
//
// write runs until it is told to stop (SIGTERM) or its time is over and prints one line of JSON a second: what was
// acknowledged, the longest single write and the longest time without any acknowledgement. check prints one line and
// exits with 1 if a Block is older than what was acknowledged, newer than what was ever sent, or anything else.
//
// # How it knows
//
// Each 4 KiB Block belongs to one worker, which writes it with an ever growing version. A Block's bytes are made from
// its number and version, so torn, misplaced and stale Blocks all show. The log holds "sent" before and
// "acknowledged" after each write; it must lie on storage that does not fail with what is tested. A version between
// the last acknowledged and the last sent is right: a write without an answer may or may not have happened.
//
// All I/O is O_DIRECT, so an acknowledgement is the device's. An error of a write ends the run: a device under
// failover is to be slow, not to fail.
package main
