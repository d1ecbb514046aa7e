package pool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
)

// device is one whose condition Ready has the reason, empty for none.
func device(name, node, reason string) v1alpha1.Device {
	var d v1alpha1.Device
	d.Name, d.Spec.NodeName, d.Spec.Path = name, node, "/dev/"+name
	d.Status.CapacityBytes, d.Status.UsedBytes, d.Status.ReservedBytes = 1000, 100, 10
	if reason != "" {
		c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: "why"}
		if reason == v1alpha1.ReasonServing {
			c.Status = metav1.ConditionTrue
		}
		d.Status.Conditions = []metav1.Condition{c}
	}
	return d
}

func TestPoolHasWhatItsDevicesInServiceHaveAndNamesWhatWasRefused(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	alive := liveness.New(clock)
	alive.Observe("dead", liveness.Renewal{Holder: "a"})
	clock.SetTime(clock.Now().Add(time.Second))
	alive.Observe("n1", liveness.Renewal{Holder: "a"})
	clock.SetTime(clock.Now().Add(liveness.DefaultDuration - time.Second/2))
	r := &Reconciler{Inventory: inventory.New(nil, alive, clock)}
	shard := &v1alpha1.Shard{}
	shard.Name, shard.Spec.SizeBytes = "s", 500
	shard.Spec.Replicas = []v1alpha1.ShardReplica{{ID: 1, DeviceName: "dev-a"}}
	r.Inventory.Note(shard)
	status := v1alpha1.PoolStatus{UsedBytes: 77, ReadyDevices: 7} // of the pass before
	refused := r.sum(&status, []v1alpha1.Device{
		device("dev-a", "n1", v1alpha1.ReasonServing),
		device("dev-b", "n1", v1alpha1.ReasonServing),
		device("dev-c", "n1", v1alpha1.ReasonDeviceFailed),
		device("dev-d", "dead", v1alpha1.ReasonServing),
		device("sda", "n1", v1alpha1.ReasonForeignData),
		device("sdb", "n1", ""),
	})
	got := []int64{
		int64(status.DeviceCount), int64(status.ReadyDevices), status.CapacityBytes, status.UsedBytes,
		status.ReservedBytes,
	}
	if want := []int64{4, 2, 2000, 200, 510}; !slices.Equal(got, want) {
		t.Errorf("devices, ready ones, capacity, used, reserved: %d, want %d", got, want)
	}
	if v := ready(&status); !v.OK || v.Message != "2 of 4 Devices are in service" {
		t.Errorf("it is ready: %+v", v)
	}
	const want = "node n1: /dev/sda: ForeignData: why; node n1: /dev/sdb: not looked at yet"
	if v := accepted(refused); v.OK || v.Reason != v1alpha1.ReasonDevicesRefused || v.Message != want {
		t.Errorf("refused: %+v, want %q", v, want)
	}
}

func TestPoolWithoutDevicesSaysSo(t *testing.T) {
	r := &Reconciler{}
	var status v1alpha1.PoolStatus
	if refused := r.sum(&status, nil); !accepted(refused).OK {
		t.Errorf("refused %q", refused)
	}
	if v := ready(&status); v.OK || v.Reason != v1alpha1.ReasonNoDevices {
		t.Errorf("it is ready: %+v", v)
	}
}

func TestOnlySoManyRefusedDevicesAreNamed(t *testing.T) {
	var refused []string
	for i := range maxNamed + 3 {
		refused = append(refused, fmt.Sprintf("number%d.", i))
	}
	v := accepted(refused)
	if strings.Count(v.Message, "number") != maxNamed || !strings.HasSuffix(v.Message, "; and 3 more") {
		t.Errorf("it says %q", v.Message)
	}
}

func TestPatternsThatCannotBeReadAreTold(t *testing.T) {
	told := unreadable(&v1alpha1.DeviceSelector{
		Paths: []string{"/dev/nvme[0-3]n1", "/dev/nvme[0n1"}, Models: []string{"X*", "Y["},
	})
	text := strings.Join(told, "; ")
	if len(told) != 2 || !strings.Contains(text, `"/dev/nvme[0n1"`) || !strings.Contains(text, `"Y["`) {
		t.Errorf("told %q", text)
	}
}
