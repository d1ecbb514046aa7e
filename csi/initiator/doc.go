// Package initiator is the process on a consumer node that owns the attached Volumes: it turns each into a block
// device.
//
// It is a process of its own so that restarting or upgrading the csi node plugin touches no device. The plugin asks it
// through package api on a unix socket; it opens the Volume at the storenodes (Opener) and hands it to a Frontend of
// package attach, which makes the device.
//
// # What a call does
//
//	Attach: same request as before     → the same device
//	        higher generation          → the old device is ended first; Busy while it is in use
//	        lower generation           → Fenced: a late call of an earlier attachment
//	        other differences          → Conflict
//	Detach: waits a bounded time for openers, then Busy
//
// # Invariants
//
//   - One call at a time for a Volume; a second is answered Busy at once. Different Volumes do not wait for each other.
//   - A Volume is open if and only if it is in the table, and is closed only after its device has gone.
//   - No more than Options.MaxVolumes are attached.
//
// # Failure
//
// No state is kept on disk. When the process ends its devices fail all I/O; at the next start what is left of them in
// the kernel is cleared, and the pods that used them have to be restarted. An orderly end detaches what is not in use.
package initiator
