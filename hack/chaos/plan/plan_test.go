package plan

import (
	"reflect"
	"testing"
)

const draws = 5000

func TestASeedDrawsTheSameAgain(t *testing.T) {
	a, b := New(7, 3), New(7, 3)
	for range draws {
		if x, y := a.Next(), b.Next(); !reflect.DeepEqual(x, y) {
			t.Fatalf("drew %v, then %v", x, y)
		}
	}
}

func TestNothingIsDrawnThatIsNotSurvived(t *testing.T) {
	p := New(1, 3)
	drawn := map[Kind]int{}
	overlaps := 0
	for range draws {
		r := p.Next()
		for _, f := range r.Faults {
			drawn[f.Kind]++
			rule := rules[f.Kind]
			if f.Node == f.Other || f.Node > 2 || f.Other > 2 || f.For < rule.shortest || f.For > rule.longest {
				t.Errorf("drew %+v", f)
			}
		}
		if len(r.Faults) == 1 {
			continue
		}
		overlaps++
		for _, f := range r.Faults {
			if len(r.Faults) > 2 || !rules[f.Kind].together || r.Faults[0].Node == r.Faults[1].Node {
				t.Errorf("drew together %v", r.Faults)
			}
		}
	}
	for k := range rules {
		if drawn[k] == 0 {
			t.Errorf("%q never came in %d rounds", k, draws)
		}
	}
	if len(order) != len(rules) {
		t.Errorf("there are %d kinds and %d rules", len(order), len(rules))
	}
	if overlaps == 0 || overlaps > draws/overlapIn {
		t.Errorf("%d of %d rounds had two faults", overlaps, draws)
	}
}

func TestAKindIsLeftOut(t *testing.T) {
	p := New(1, 3, KillInitiator)
	for range draws {
		for _, f := range p.Next().Faults {
			if f.Kind == KillInitiator {
				t.Fatalf("drew %v", f)
			}
		}
	}
}
