// Package initiator is the process on a consumer node that owns the attached Volumes: it turns each into a block
// device.
//
// It is a process of its own so that restarting or upgrading the csi node plugin touches no device. The plugin asks it
// through package api on a unix socket; it opens the Volume at the storenodes (Opener) and hands it to a Frontend of
// package attach, which makes the device.
//
// # What a call does
//
//	Attach: same request as before     → the same device, or another if somebody else has ended it
//	        higher generation          → the old device is ended first; Busy while it is in use
//	        lower generation           → Fenced: a late call of an earlier attachment
//	        fenced by the storenodes   → Fenced, unless the generation is higher; the device is ended if it is not in use
//	        other differences          → Conflict
//	Detach: waits a bounded time for openers, then Busy
//	List:   a device of which the kernel says nothing → Busy; the list of all is without it
//
// # Invariants
//
//   - One call at a time for a Volume; a second is answered Busy at once. Different Volumes do not wait for each other.
//   - A Volume is open if it is in the table and not waiting to be resumed, and is closed only after its device has
//     gone.
//   - No more than Options.MaxVolumes are attached, unless a process that was allowed more left them.
//
// # Death and succession
//
// No state is kept on disk. With a holder (package csi/attach/holder) a device outlives the process: the holder has
// the Frontend's descriptors and state, and the request that attached it. The next process
//
//	takes them           when the kernel has closed everything of the process before
//	adopts each device   its I/O waits; List shows it, other calls for it are Busy
//	looks if it is gone  for a second: the kernel may have no answer before the device is resumed
//	begins a new life    a number higher than all before, which the holder is told first
//	                     (the second in which it began; an attachment made later that is Fenced in this life is tried
//	                     once in that of the clock, a second behind)
//	opens the Volume     with generation + life, for as long as the storenodes need to answer, at the addresses that the
//	                     holder was told last: each minute, where the Volume's I/O has found them
//	resumes the device   the kernel sends again what was not answered
//
// Why that is exactly once. The process that died may have left writes in sockets; one that arrived after a later write
// of the same Block would undo it. The Primary refuses generations below the highest it has seen, so from the first
// request of the new life on it refuses what is left of the old one; before that it may carry it out, and then the
// kernel, which has no answer, sends it again: it is carried out twice with nothing in between that depends on it,
// because its submitter still waits. A discard or zeroing likewise; a FLUSH goes to all Shards, as the first of each
// session. Crashes between any two of these steps leave an item in the holder with a life that nobody else will use.
//
// The devices do so each for itself, and cleaning up follows: whatever hangs in the kernel keeps no other from being
// resumed. Only an attachment that is fenced, or a device that the kernel has ended, is given up: its I/O fails.
//
// # Failure
//
// Without a holder, or when both die, devices fail all I/O; at the next start what is left of them in the kernel is
// cleared, and the pods that used them have to be restarted. An orderly end detaches what is neither in use nor held.
package initiator
