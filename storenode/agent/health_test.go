package agent

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/shard"
)

func TestTheConditionOfADeviceIsTheWorstThatIsTrue(t *testing.T) {
	room, full := DeviceUsage{Capacity: 10 << 20, Used: 2 << 20}, DeviceUsage{Capacity: 10 << 20, Used: 10 << 20}
	for name, c := range map[string]struct {
		health    shard.Health
		usage     DeviceUsage
		erroneous bool
		want      string
	}{
		"nothing is wrong": {usage: room, want: v1alpha1.ReasonHealthy},
		"old errors":       {health: shard.Health{Errors: 3}, usage: room, want: v1alpha1.ReasonHealthy},
		"recent errors":    {health: shard.Health{Errors: 3}, usage: full, erroneous: true, want: v1alpha1.ReasonIOErrors},
		"no space":         {usage: full, want: v1alpha1.ReasonFull},
		"it hangs":         {health: shard.Health{Stalled: 3 * time.Second}, usage: full, want: v1alpha1.ReasonStalled},
	} {
		got := healthy(c.health, c.usage, c.erroneous)
		if got.Reason != c.want || (got.Status == metav1.ConditionTrue) != (c.want == v1alpha1.ReasonHealthy) {
			t.Errorf("%s: %s %s, want %s", name, got.Status, got.Reason, c.want)
		}
	}
}

func TestErrorsOfADeviceAreForgottenAfterAWhile(t *testing.T) {
	var e deviceErrors
	now := time.Unix(1000, 0)
	for i, step := range []struct {
		count  uint64
		after  time.Duration
		recent bool
	}{
		{0, 0, false},
		{2, time.Second, true},
		{2, errorMemory - time.Second, true},
		{2, 2 * time.Second, false},
		{3, time.Second, true},
	} {
		now = now.Add(step.after)
		if got := e.see(step.count, now); got != step.recent {
			t.Errorf("step %d: recent %v", i, got)
		}
	}
}
