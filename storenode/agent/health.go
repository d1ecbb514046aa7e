package agent

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/shard"
)

const (
	// stalledAfter is how long a Device may finish nothing before people are told.
	stalledAfter = 2 * time.Second
	// errorMemory is how long errors of a Device are told after the last.
	errorMemory = 10 * time.Minute
	// extentBytes is what a write may need at once.
	extentBytes = 1 << 20
)

// deviceErrors is when the last error of a Device was seen.
type deviceErrors struct {
	count uint64
	at    time.Time
}

// see notes the errors counted so far, and reports whether the last is recent.
func (e *deviceErrors) see(count uint64, now time.Time) bool {
	if count > e.count {
		e.at = now
	}
	e.count = count
	return !e.at.IsZero() && now.Sub(e.at) < errorMemory
}

// healthy is the condition of a Device: the worst that is true of it.
func healthy(h shard.Health, u DeviceUsage, erroneous bool) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionFalse}
	switch {
	case h.Stalled >= stalledAfter:
		c.Reason = v1alpha1.ReasonStalled
		c.Message = "The device has work and finishes none of it"
	case erroneous:
		c.Reason = v1alpha1.ReasonIOErrors
		c.Message = fmt.Sprintf("%d operations failed since the storenode started; the last: %s", h.Errors, h.LastError)
	case u.Capacity > 0 && u.Capacity-u.Used < extentBytes:
		c.Reason = v1alpha1.ReasonFull
		c.Message = "The device has no space left; writes that need some fail"
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonHealthy
		c.Message = "The device answers, without errors, and has room"
	}
	return c
}
