package cgroup

import (
	"slices"
	"testing"
)

func TestVersionOneIsPreferredAndVersionTwoStillCleaned(t *testing.T) {
	mounts := "cgroup /c/cpu cgroup rw,cpu 0 0\ncgroup /c/pids cgroup rw,pids 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n"
	roots, others, unified := hierarchies(mounts)
	if unified || !slices.Equal(roots, []string{"/c/cpu", "/c/pids"}) || !slices.Equal(others, []string{"/c/unified"}) {
		t.Errorf("got %v, %v, %v", roots, others, unified)
	}
}

func TestVersionTwoAloneIsUsed(t *testing.T) {
	roots, _, unified := hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
	if !unified || !slices.Equal(roots, []string{"/sys/fs/cgroup"}) {
		t.Errorf("got %v, %v", roots, unified)
	}
}
