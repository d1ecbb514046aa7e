// Package driver is the CSI driver: one file a service, and one mapper of errors.
//
// Each call validates, takes the lock of its volume, acts and maps the error. A busy volume answers Aborted at once;
// every call may be repeated. The controller knows Volumes only through csi/volumes, the node service devices only
// through the initiator's API, so neither holds state that a restart could lose.
package driver
