package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
}

// test is one of a package; its name is empty for the package itself.
type test struct{ pkg, name string }

// report writes what go test without -v would, and keeps what was skipped.
type report struct {
	out io.Writer
	// said is what tests have written that have not ended yet, in that order.
	said    map[test][]string
	order   []test
	skipped []string
}

func newReport(out io.Writer) *report { return &report{out: out, said: map[test][]string{}} }

// line takes one of go test's. What is no event, as of a build that fails, is passed on.
func (r *report) line(text []byte) {
	var e event
	if json.Unmarshal(text, &e) != nil {
		_, _ = r.out.Write(text)
		return
	}
	r.take(e)
}

func (r *report) take(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		r.print(e.Output)
	case "output":
		if e.Test == "" && e.Output != "PASS\n" {
			r.print(e.Output)
		}
		if e.Test == "" {
			return
		}
		if r.said[t] == nil {
			r.order = append(r.order, t)
		}
		r.said[t] = append(r.said[t], e.Output)
	case "pass":
		r.drop(t)
	case "skip":
		if e.Test != "" {
			r.skipped = append(r.skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(r.said[t])))
		}
		r.drop(t)
	case "fail":
		if e.Test != "" {
			r.show(t)
			return
		}
		for _, other := range slices.Clone(r.order) { // those that never ended, as the process did
			if other.pkg == e.Package {
				r.show(other)
			}
		}
	}
}

// show writes what a test has said.
func (r *report) show(t test) {
	for _, line := range r.said[t] {
		r.print(line)
	}
	r.drop(t)
}

func (r *report) drop(t test) {
	delete(r.said, t)
	r.order = slices.DeleteFunc(r.order, func(other test) bool { return other == t })
}

// end tells what was skipped.
func (r *report) end() {
	if len(r.skipped) == 0 {
		r.print("nothing was skipped\n")
		return
	}
	r.print(fmt.Sprintf("%d tests were skipped:\n", len(r.skipped)))
	for _, s := range r.skipped {
		r.print("  " + s + "\n")
	}
}

func (r *report) print(text string) { _, _ = io.WriteString(r.out, text) }

// reason is what a test said when it was skipped: the last line that is not go test's own.
func reason(said []string) string {
	for _, line := range slices.Backward(said) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return "it does not say why"
}
