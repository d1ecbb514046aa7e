package main

import (
	"strings"
	"testing"
)

// told is the report of events.
func told(lines ...string) string {
	var out strings.Builder
	r := newReport(&out)
	for _, l := range lines {
		r.line([]byte(l + "\n"))
	}
	r.end()
	return out.String()
}

func TestSkippedTestsAreToldWithTheirReason(t *testing.T) {
	got := told(
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: needs root\n"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:3: chatter\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestB"}`,
		`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
		`{"Action":"pass","Package":"p"}`,
		`{"Action":"output","Package":"q","Output":"?   \tq\t[no test files]\n"}`,
		`{"Action":"skip","Package":"q"}`,
	)
	want := "ok  \tp\t0.1s\n?   \tq\t[no test files]\n1 tests were skipped:\n  p TestA: a_test.go:7: needs root\n"
	if got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestWhatFailsIsShownWhole(t *testing.T) {
	got := told(
		`# p`,
		`{"Action":"build-output","ImportPath":"q","Output":"q.go:1:1: expected 'package'\n"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: no\n"}`,
		`{"Action":"fail","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"panic: oh\n"}`,
		`{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}`,
		`{"Action":"fail","Package":"p"}`,
	)
	for _, want := range []string{
		"# p\n", "q.go:1:1", "a_test.go:7: no\n", "panic: oh\n", "FAIL\tp\t0.1s\n", "nothing was skipped",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("told %q, want %q in it", got, want)
		}
	}
}
