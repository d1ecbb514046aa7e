package shard

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/reconcilers"
)

const (
	// DisplacedAnnotation lists Replicas that were taken off while their storenode still held them.
	DisplacedAnnotation = "shale.dev/displaced"
	// maxDisplaced bounds the list; the oldest is dropped. The status has room for no more either.
	maxDisplaced = 16
	// lateMemory is how long the Device of a Replica that was not made in time gets no other one of the Shard.
	lateMemory = 10 * time.Minute
	// retryRemove is how soon a deletion that waits is looked at again, if nothing it waits for is seen before.
	retryRemove = 10 * time.Second
)

// displacedReplica is one that was taken off.
type displacedReplica struct {
	v1alpha1.ShardReplica
	// Reported: there was an entry of it then. Only its storenode takes that away, when the space is given back.
	Reported bool `json:"reported,omitempty"`
	// Late is when it was taken off because its storenode, alive, had not made it in time.
	Late *metav1.Time `json:"late,omitempty"`
}

// Devices on which a Shard has a Replica, or may have one left behind.
func Devices(shard *v1alpha1.Shard) []string {
	var devices []string
	for _, replica := range shard.Spec.Replicas {
		devices = append(devices, replica.DeviceName)
	}
	for _, d := range displaced(shard) {
		devices = append(devices, d.DeviceName)
	}
	slices.Sort(devices)
	return slices.Compact(devices)
}

// displace takes a Replica off the list of the next Shard and remembers where it was.
func (s *scope) displace(shard *v1alpha1.Shard, id int64, now time.Time) {
	reported := map[int64]bool{}
	for _, report := range shard.Status.Replicas {
		reported[report.ID] = true
	}
	past := slices.DeleteFunc(displaced(shard), func(d displacedReplica) bool {
		return !reported[d.ID] && !s.mayCome(&d, now)
	})
	var late *metav1.Time
	if s.late[id] {
		late = ptr.To(metav1.NewTime(now).Rfc3339Copy())
	}
	shard.Spec.Replicas = slices.DeleteFunc(shard.Spec.Replicas, func(replica v1alpha1.ShardReplica) bool {
		if replica.ID == id {
			past = append(past, displacedReplica{replica, reported[id], late})
		}
		return replica.ID == id
	})
	past = past[max(len(past)-maxDisplaced, 0):]
	text, err := json.Marshal(past)
	if err != nil {
		return // strings and numbers always encode
	}
	if shard.Annotations == nil {
		shard.Annotations = map[string]string{}
	}
	shard.Annotations[DisplacedAnnotation] = string(text)
}

// mayCome reports whether a displaced Replica of which nothing was ever told may be made yet: what is asked of a Device
// that hangs ends when it does not any more.
func (s *scope) mayCome(d *displacedReplica, now time.Time) bool {
	if d.Reported {
		return false
	}
	return s.stuck[d.ID] || d.Late != nil && !now.Before(d.Late.Time) && now.Sub(d.Late.Time) < lateMemory
}

// displaced are the Replicas that were taken off. What cannot be read is nothing: the annotation is people's to break.
func displaced(shard *v1alpha1.Shard) []displacedReplica {
	var past []displacedReplica
	if json.Unmarshal([]byte(shard.Annotations[DisplacedAnnotation]), &past) != nil {
		return nil
	}
	return past
}

// remove lets go of a deleted Shard when no storenode holds space for it any more.
func (r *Reconciler) remove(ctx context.Context, s *scope) error {
	if !controllerutil.ContainsFinalizer(s.shard, reconcilers.Finalizer) {
		s.gone = true
		return nil
	}
	deleting := r.since.age(s.shard.Name, "deleting", true, r.Clock.Now())
	for _, holding := range r.holdings(s) {
		device, err := r.holder(ctx, holding.ShardReplica)
		if err != nil {
			return err
		}
		if device != nil {
			r.await(s, &holding, device, deleting)
		}
	}
	if len(s.waitsFor) > 0 {
		s.lookAgain(retryRemove)
		return nil
	}
	next := s.shard.DeepCopy()
	controllerutil.RemoveFinalizer(next, reconcilers.Finalizer)
	// Conditional on the resourceVersion: a report that came meanwhile keeps the Shard.
	if err := r.API.Update(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("remove finalizer of shard %s: %w", next.Name, err)
	}
	s.gone = true
	r.forget(next.Name)
	return nil
}

// holdings are the Replicas whose space is to be given back, displaced ones included.
func (r *Reconciler) holdings(s *scope) []displacedReplica {
	var all []displacedReplica
	for _, replica := range s.shard.Spec.Replicas {
		// That it came InSync proves no report: the object may have been restored, or written by hand, without its status.
		held := fmt.Sprintf("replica %d held", replica.ID)
		seen := r.since.once(s.shard.Name, held, s.reports[replica.ID] != nil, r.Clock.Now())
		all = append(all, displacedReplica{ShardReplica: replica, Reported: seen})
	}
	return append(all, displaced(s.shard)...)
}

// await notes what keeps the space of a Replica from being known as given back, if anything does. The deletion has
// lasted for deleting. That nothing is told of a Replica of which nothing ever was is believed only of who could tell.
func (r *Reconciler) await(s *scope, replica *displacedReplica, device *v1alpha1.Device, deleting time.Duration) {
	node := device.Spec.NodeName
	state := r.Inventory.Alive(node)
	report := s.reports[replica.ID]
	has := "has"
	if report == nil {
		if replica.Reported {
			return // its report was there, and only its storenode takes it away: the space is given back
		}
		has = "may have"
	}
	refused := report != nil && report.State == v1alpha1.ReplicaFailed && report.Epoch == 0 && report.UsedBytes == 0
	wait := func(format string, args ...any) { s.waitsFor = append(s.waitsFor, fmt.Sprintf(format, args...)) }
	switch {
	case !state.Alive:
		wait("storenode %s is down and %s replica %d on device %s", node, has, replica.ID, replica.DeviceName)
	case broken(device) != "" && !refused:
		wait("device %s on node %s %s replica %d and cannot give its space back (%s): bring it back, or, if it is lost "+
			"for good: kubectl delete device %s", device.Name, node, has, replica.ID, broken(device), device.Name)
	case report == nil && inventory.IsStalled(device):
		wait("device %s on node %s does not answer and may have replica %d", device.Name, node, replica.ID)
	case (report == nil || refused) && min(deleting, state.AliveFor) >= settle:
		// It has had the time to say that it has the Replica, and did not, or said that it has not.
	case report == nil || refused:
		s.lookAgain(settle - min(deleting, state.AliveFor) + tick)
		wait("storenode %s may not have seen yet that replica %d is wanted no more", node, replica.ID)
	default:
		wait("storenode %s gives back the space of replica %d on device %s", node, replica.ID, replica.DeviceName)
	}
}

// holder is the Device of a Replica, nil if a person has said that it will not return.
func (r *Reconciler) holder(ctx context.Context, replica v1alpha1.ShardReplica) (*v1alpha1.Device, error) {
	var device v1alpha1.Device
	err := r.API.Get(ctx, client.ObjectKey{Name: replica.DeviceName}, &device)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // nil is the answer
	case err != nil:
		return nil, fmt.Errorf("get device %s: %w", replica.DeviceName, err)
	}
	return &device, nil
}

// broken is why a Device cannot do anything, though its storenode lives; empty if it can.
func broken(device *v1alpha1.Device) string {
	c := meta.FindStatusCondition(device.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case c == nil:
		return "nothing is told of it"
	case c.Status == metav1.ConditionTrue:
		return ""
	}
	return c.Reason
}
