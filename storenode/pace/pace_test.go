package pace_test

import (
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/pace"
)

// judge runs windows of changes, n in each of which every k-th is dragged by the copy at place 1, and says in which
// window that is named.
func judge(t *testing.T, windows, n, k int, last, others time.Duration) int {
	t.Helper()
	var p pace.Pace
	for w := 1; w <= windows; w++ {
		for i := range n {
			if i%k == 0 {
				p.Ended(1, last, others)
			} else {
				p.Ended(2, others, others)
			}
		}
		switch place := p.Judge(time.Duration(w) * pace.Window); place {
		case 1:
			return w
		case pace.None:
		default:
			t.Fatalf("copy %d was named", place)
		}
	}
	return 0
}

func TestWhoIsNamed(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		name         string
		n, k         int
		last, others time.Duration
		want         int
	}{
		{"a copy that drags all", 20, 1, 200 * ms, ms, 2},
		{"a copy that drags a quarter", 40, 4, 200 * ms, ms, 2},
		{"not a copy that drags a fifth", 40, 5, 200 * ms, ms, 0},
		{"not one that is slow as the others are", 40, 1, 200 * ms, 30 * ms, 0},
		{"not one that is fast enough", 40, 1, 99 * ms, ms, 0},
		{"one with few changes, later", 10, 1, 200 * ms, ms, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := judge(t, 6, c.n, c.k, c.last, c.others); got != c.want {
				t.Errorf("named in window %d, want %d", got, c.want)
			}
		})
	}
}

func TestOneGoodWindowIsForgiving(t *testing.T) {
	var p pace.Pace
	for w := 1; w <= 10; w++ {
		for range pace.Changes {
			if w%2 == 0 {
				p.Ended(3, time.Second, 0)
			} else {
				p.Ended(3, 0, 0)
			}
		}
		if place := p.Judge(time.Duration(w) * pace.Window); place != pace.None {
			t.Fatalf("copy %d was named in window %d", place, w)
		}
	}
}
