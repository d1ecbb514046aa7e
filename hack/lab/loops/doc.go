// Package loops finds and detaches the loop devices that belong to a machine of the lab.
//
// Loop devices are the kernel's, not a namespace's: when a machine of the lab dies, its loop devices stay, with all
// machines' in one row. A real dead machine takes them along, so the lab must tell whose they are. Two things may be
// behind a loop device:
//
//   - a file, on a file system that only this machine mounts, or below the machine's directory, or one of the
//     initiator, which has taken its mount away and writes its identity into the device's name;
//   - another loop device (the kubelet holds raw block volumes so), which then has the same owner.
//
// Ownership is to be asked while the machine is alive, because its mounts are the evidence. What died before leaves
// an orphan: a device on a file system that nobody mounts any more. It serves nobody and may go in any case, but for
// the devices of initiators, of which others than the lab's may run on this host: those go with their machine alone.
package loops
