// Package space gives a part of the lab a network, mounts and a host name of its own.
//
// A Space is three namespaces, held by one sleeping process, the holder. There is no name in /run/netns and no bind
// mount: when the last process in the Space ends, the kernel removes the namespaces with their mounts and devices. So
// to kill is to clean up, and a lab whose command died leaves nothing that a later `down` cannot end.
package space
