package setup

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// However often it failed meanwhile: what an API server was away for goes on soon after it is back.
func TestWhatFailedOftenIsTriedAgainSoon(t *testing.T) {
	limiter := workers(1).RateLimiter
	var failed, other reconcile.Request
	failed.Name, other.Name = "failed", "other"
	for range 1000 {
		if pause := limiter.When(failed); pause > lastRetry {
			t.Fatalf("waits for %s", pause)
		}
	}
	if pause := limiter.When(other); pause > firstRetry {
		t.Errorf("another waits for %s", pause)
	}
}
