package control_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/control"
	"github.com/shale-storage/shale/api/v1alpha1"
)

// However often it failed meanwhile: what an API server was away for goes on soon after it is back.
func TestWhatFailedOftenIsTriedAgainSoon(t *testing.T) {
	limiter := control.Workers(1).RateLimiter
	var failed, other reconcile.Request
	failed.Name, other.Name = "failed", "other"
	for range 1000 {
		if pause := limiter.When(failed); pause > control.LastRetry {
			t.Fatalf("waits for %s", pause)
		}
	}
	if pause := limiter.When(other); pause > control.FirstRetry {
		t.Errorf("another waits for %s", pause)
	}
}

func TestAnotherObjectOfTheSameNameIsSeen(t *testing.T) {
	object := func(uid types.UID, generation int64) *v1alpha1.Volume {
		v := &v1alpha1.Volume{}
		v.Name, v.UID, v.Generation = "v", uid, generation
		return v
	}
	before := object("a", 3)
	for name, c := range map[string]struct {
		after *v1alpha1.Volume
		seen  bool
	}{
		"only the status changed":         {object("a", 3), false},
		"the spec changed":                {object("a", 4), true},
		"another, of the same generation": {object("b", 3), true},
	} {
		if got := control.Changed().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: c.after}); got != c.seen {
			t.Errorf("%s: seen %v", name, got)
		}
	}
}
