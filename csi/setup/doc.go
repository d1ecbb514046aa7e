// Package setup puts the parts of shale-csi together: its commands and flags, the gRPC server on its unix socket, the
// registration with the kubelet, and the endpoint for health and metrics.
//
//	shale-csi controller   CSI Identity and Controller, beside the provisioner and attacher sidecars
//	shale-csi node         CSI Identity and Node, on every node that uses Volumes
//	shale-csi initiator    the owner of the attached devices, on every node that uses Volumes
//	shale-csi holder       keeps what the initiator's successor needs, beside it
//
// # Failure
//
// A command ends with an error if its socket cannot be served or the kubelet refuses the registration, and in order,
// finishing the calls in progress, at SIGTERM and SIGINT. None keeps state, so each may be restarted at any time;
// restarting the node plugin touches no attached device, and
// restarting one of initiator and holder makes I/O wait at most.
package setup
