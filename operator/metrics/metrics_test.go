package metrics

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestEachMetricIsExplained(t *testing.T) {
	r := prometheus.NewRegistry()
	m := New(r)
	m.Failovers.WithLabelValues("any") // without a cause it is not there yet
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/operate/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(string(text), "`"+f.GetName()+"`") {
			t.Errorf("%s is not explained", f.GetName())
		}
	}
	if named := strings.Count(string(text), "`shale_operator_"); len(families) != named {
		t.Errorf("%d metrics are made, %d explained", len(families), named)
	}
}

func TestWhatIsPutTwiceCountsOnce(t *testing.T) {
	s := newSet("name", "help")
	s.Put("a", true)
	s.Put("a", true)
	s.Put("b", true)
	s.Put("b", false)
	if n := s.size(); n != 1 {
		t.Errorf("%v names, want 1", n)
	}
}
