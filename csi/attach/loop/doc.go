// Package loop attaches Volumes on any kernel: a loop device with direct I/O on the one file of a FUSE export.
//
//	/dev/loopN ─ loop driver ─ direct I/O ─ FUSE file ─ package fuse ─ attach.Backend
//
// Reads and writes become READ and WRITE; flush (and FUA, which the block layer turns into write and flush) becomes
// FSYNC; discard and write-zeroes become FALLOCATE. Blocks are 4 KiB, logical and physical. A request of the
// device is at most 512 KiB, so that FUSE never has to cut it (maxRequest); an adopted device keeps the limit it was
// made with, because a change would wait for I/O that waits for us.
//
// # Whose loop devices
//
// Loop devices are global to the kernel, also among containers, and several initiators may share one kernel. So each
// state directory has an identity, drawn once, and each loop device carries it in its name field:
//
//	shale:IDENTITY:HASH      HASH = the first 16 hexadecimal digits of SHA-256 of the volume's name
//
// CleanUp touches loop devices with its own identity and FUSE mounts below its own directory, nothing else. It opens
// only devices over a file named as an export's, and waits for none: one that a killed process is just closing cannot
// be opened before the I/O of that process has ended, and that may wait for this very process.
//
// # Invariants
//
//   - A device with an exclusive opener (a mounted file system) is never cleared; Detach waits, then says ErrBusy.
//   - A device that somebody else has cleared is given to nobody, even if its number is bound again (Confirm).
//   - A link below /dev/shale is removed only while it leads to the device that is being detached: on a shared /dev the
//     Volume may already have been attached anew.
//
// # Failure
//
// The mount point is taken away as soon as the loop device holds the file. When the process ends and somebody keeps its
// descriptors (Held), I/O waits until another process adopts and resumes the device, from any mount namespace.
// Otherwise I/O fails with EIO and the next process clears the device at its start; one that is still open then goes
// away with its last opener (LO_FLAGS_AUTOCLEAR).
package loop
