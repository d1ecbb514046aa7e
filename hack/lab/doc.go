// Package lab is a real Kubernetes of several machines on this one: the control plane and each node have a network,
// mounts, a host name and a control group of their own, and run the unchanged programs that hack/toolbox built.
//
//	            bridge 10.10.0.0/24 (in the control plane's namespace)
//	┌────────────────┬──────────────────┬──────────────────┬──────────────────┐
//	│ control plane  │ n1 10.10.0.11    │ n2 10.10.0.12    │ n3 10.10.0.13    │
//	│ etcd           │ containerd       │ containerd       │ containerd       │
//	│ kube-apiserver │ kubelet          │ kubelet          │ kubelet          │
//	│ scheduler, …   │ pods 10.244.1.x  │ pods 10.244.2.x  │ pods 10.244.3.x  │
//	└────────────────┴──────────────────┴──────────────────┴──────────────────┘
//
// The service address of the API server, 10.96.0.1, is on the control plane's loopback; there is no kube-proxy, so
// other Services have no address that answers, and no DNS. Pods of all nodes reach each other by routes.
//
// # Disks
//
// A node sees its own files at /var/lib/kubelet, /var/lib/shale and the other paths in ownDirs, and the host's
// everywhere else. /dev is the host's, but for /dev/shale. Its SSD is the sparse file
// /var/lib/shale/devices/ssd0.img. All lives below Options.Dir, which must be on a file system with direct I/O.
//
// # Life
//
// The lab outlives the command that made it. What belongs to it is told by its control group, see package cgroup; its
// namespaces go with its processes, see package space; so Down needs no memory of what Up did, ends a half-made
// lab as well as a whole one, and may be repeated.
//
// The control plane has no kubelet: a shell starts each of its programs again a second after it ended, without end, and
// says so in the program's log. The pid file has the pid of that shell, which is the process group of both. A program
// that StopAPIServer ended stays away.
//
// PowerOff is what pulling the plug is to processes: everything on the node ends at once, and nothing cleans up. It is
// not what it is to an SSD: that is a file of the host and keeps all that was written, flushed or not. PowerOn starts
// the node on the same disks, with /run and its kind empty, and a new BootID, by which a storenode knows that power was
// lost and that it cannot be sure of what it has not flushed. Cut and Heal are the cable; CutTo and its kin drop only
// what goes one way to one machine. What else fails: Pause, FailWrites, StopAPIServer.
//
// # Concurrency
//
// One command at a time makes or ends the lab of a directory: it has a lock beside it while it runs, and another waits
// and says for whom. Commands that play with a lab, such as `lab exec`, need no turn.
//
// A Cluster may be used by several goroutines. Different nodes may be switched at a time, one node not.
//
// # Failure
//
// What does not come up is reported with the component's name, the end of its log and the log's path.
package lab
