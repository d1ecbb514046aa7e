// Package process is one storenode without Kubernetes: a Host, its connections by TCP, its Devices by io_uring, and the
// real clock. Command storenode ties it to a cluster; benchmarks and tests of processes use it as it is.
//
// Start makes it, Serve runs it, Stop ends its connections; then each Device is removed from the Host and its Store
// closed. Nothing here is on the data path.
package process
