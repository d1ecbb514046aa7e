package main

import (
	"strings"
	"testing"
)

func TestWhatMeasuresNothingIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		o    options
		want string
	}{
		"rounds": {options{size: 1, rounds: 0}, "-rounds 0"},
		"size":   {options{rounds: 1}, "-size-mib"},
		"only":   {options{size: 1, rounds: 1, only: "nothing"}, "randwrite-4k-qd1"},
		"load":   {options{size: 1, rounds: 1, only: "seqwrite", rebuild: true}, "randread-4k-qd4"},
	} {
		if err := c.o.check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	if err := (&options{size: 1, rounds: 1, only: "seq"}).check(); err != nil {
		t.Error(err)
	}
}
