// Package stack tests the data path from the block device down to the Devices, without Kubernetes: an initiator's loop
// frontend and volume client over real storenodes on files, all in this process, with records kept by shardtest.
//
// The tests need root, /dev/fuse, loop devices and fio; they say so and skip where one is missing.
package stack
