// Package mounter makes file systems on devices and mounts them, for the csi node service.
//
// It is k8s.io/mount-utils with two things added. A device is formatted only if it is blank by two independent
// witnesses: blkid finds nothing, and we ourselves read nothing but zeros at its start and its end. (blkid answers the
// same for "nothing found" and "cannot open"; a Volume that was never written reads as zeros, so an empty one always
// passes.) And what is mounted is learned from the mount table, not by touching the mount, which may be dead and
// answer nothing.
//
// # Concurrency
//
// Safe for different targets and devices; the caller sees to it that there is one call at a time for each.
//
// # Failure
//
// Every call may be repeated after a crash at any moment: MountFilesystem of a formatted device mounts it, Unmount of
// what is not mounted is no error. A crash within mkfs can leave a device that is neither blank nor a file system, or
// an xfs that is not finished. They are refused with ErrNotBlank and ErrUnfinished, never formatted again, because they
// look like data that we do not know.
package mounter
