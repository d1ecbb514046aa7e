package inventory

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/liveness"
)

func TestDeviceThatCannotTakeAReplicaIsRefusedWithTheReason(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	i := New(nil, liveness.New(clock), clock)
	for story, c := range map[string]struct {
		ready, healthy string // reasons; the condition is True if empty
		want           string
	}{
		"in service, healthy":          {},
		"failed":                       {ready: v1alpha1.ReasonDeviceFailed, want: "not in service (DeviceFailed)"},
		"it hangs":                     {healthy: v1alpha1.ReasonStalled, want: "not healthy (Stalled)"},
		"it is full":                   {healthy: v1alpha1.ReasonFull, want: "not healthy (Full)"},
		"it had errors; it may go on":  {healthy: v1alpha1.ReasonIOErrors},
		"it failed, and hangs besides": {v1alpha1.ReasonDeviceFailed, v1alpha1.ReasonStalled, "not in service"},
	} {
		d := &v1alpha1.Device{}
		for kind, reason := range map[string]string{
			v1alpha1.ConditionReady: c.ready, v1alpha1.ConditionHealthy: c.healthy,
		} {
			condition := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonServing}
			if reason != "" {
				condition.Status, condition.Reason = metav1.ConditionFalse, reason
			}
			meta.SetStatusCondition(&d.Status.Conditions, condition)
		}
		if got := i.refusal(d); !strings.HasPrefix(got, c.want) || got != "" && c.want == "" {
			t.Errorf("%s: refused because %q, want %q", story, got, c.want)
		}
	}
}

// What is on it cannot be had now, and others can serve: the same, whether it is away or takes long to be opened.
func TestNobodyWaitsForWhatIsOnADeviceThatIsMissingOrBeingOpened(t *testing.T) {
	for reason, want := range map[string]bool{
		v1alpha1.ReasonMissing: true, v1alpha1.ReasonOpening: true, v1alpha1.ReasonDeviceFailed: false,
	} {
		d := &v1alpha1.Device{}
		d.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: "why",
		}}
		if why, is := IsMissing(d); is != want || is && why != "why" {
			t.Errorf("%s: %v, %q", reason, is, why)
		}
	}
}
