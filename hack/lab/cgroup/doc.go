// Package cgroup makes the control group that holds everything of the lab, and ends what is in it.
//
// A Group is a path that exists in every hierarchy of a version 1 host, or once on a version 2 host. What the lab
// starts joins a Group before it becomes the program, and children stay in it or below. So the Group, not a list of
// pids, is the truth about what belongs to the lab: it outlives the command that started the lab, and it knows the
// containers, which other programs started.
//
// # Killing
//
// Kill is a power failure: on version 1 all processes are frozen, then signalled, then thawed, so none sees another
// one die and cleans up; version 2 has the same in one file, cgroup.kill.
package cgroup
