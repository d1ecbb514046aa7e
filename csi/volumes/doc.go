// Package volumes is what the CSI controller wants of the Kubernetes API: Volume objects, who may use them, and how
// much room there is.
//
// # Invariants
//
//   - Attachments change only by compare-and-swap on the object's resourceVersion: of two nodes that want the same
//     Volume, one is told of the other.
//   - AttachGeneration never falls. A writer gets one of its own, higher than any before, so that storenodes refuse
//     whoever wrote earlier; it has room below the next for the lives of the attachment (see package initiator).
//     Readers that come to readers share theirs, because a higher one would fence the others.
//   - Nothing is kept in memory: each call reads the API, so any number of controllers may run, and any may crash.
//
// # Failure
//
// ErrNotFound, ErrExists, ErrGoing, ErrIncompatible, *NotReadyError and *AttachedError are what callers tell apart;
// errors of the API itself are wrapped as they are. Safe for concurrent use.
package volumes
