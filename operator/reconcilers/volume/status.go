package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/reconcilers"
)

// maxNamed bounds the Shards that a message tells of.
const maxNamed = 3

// tell writes the status. After a change of a condition the Volume is looked at again: a pass between may have read the
// Volume from before, found its conditions right, and left what is wrong by now.
func (r *Reconciler) tell(ctx context.Context, s *scope) error {
	v := s.volume
	base := v.DeepCopy()
	v.Status.ObservedGeneration = v.Generation
	if int64(len(s.shards)) >= shardCount(v) {
		v.Status.ShardCount = int32(shardCount(v))
	}
	v.Status.HealthyShards, v.Status.UsedBytes = 0, 0
	for i := range s.shards {
		shard := &s.shards[i]
		if meta.IsStatusConditionTrue(shard.Status.Conditions, v1alpha1.ConditionHealthy) {
			v.Status.HealthyShards++
		}
		for _, replica := range shard.Status.Replicas {
			v.Status.UsedBytes += replica.UsedBytes
		}
	}
	v.Status.Size, v.Status.Used = v1alpha1.BytesText(v.Spec.SizeBytes), v1alpha1.BytesText(v.Status.UsedBytes)
	reconcilers.Set(&v.Status.Conditions, v1alpha1.ConditionReady, ready(s), v.Generation)
	reconcilers.Set(&v.Status.Conditions, v1alpha1.ConditionHealthy, healthy(s), v.Generation)
	if !equality.Semantic.DeepEqual(base.Status.Conditions, v.Status.Conditions) {
		s.again = lookAgain
	}
	return reconcilers.Patch(ctx, r.API, base, v)
}

// severity orders the reasons why a Shard, and so the Volume, is not Ready or not Healthy: the worst is told.
func severity(reason string) int {
	order := []string{
		v1alpha1.ReasonCreating, v1alpha1.ReasonRebuilding, v1alpha1.ReasonNoRoom, v1alpha1.ReasonDegraded,
		v1alpha1.ReasonNoReplacement, v1alpha1.ReasonTooFewInSync, v1alpha1.ReasonWaitsForReplicas,
		v1alpha1.ReasonNoPrimary, v1alpha1.ReasonStaleRecord, v1alpha1.ReasonBlocksLost,
	}
	return slices.Index(order, reason)
}

// worst is the worst reason that Shards have, and the first of the Shards that have it.
type worst struct {
	reason string
	named  []string
}

func (w *worst) note(shard *v1alpha1.Shard, reason, message string) {
	if w.reason == "" || severity(reason) > severity(w.reason) {
		w.reason, w.named = reason, nil
	}
	if reason == w.reason && len(w.named) < maxNamed {
		w.named = append(w.named, fmt.Sprintf("shard %d: %s", shard.Spec.Index, message))
	}
}

// ready is whether every Shard serves; the message is of the worst.
func ready(s *scope) reconcilers.Verdict {
	if s.unmade != nil {
		return *s.unmade
	}
	var w worst
	for i := range s.shards {
		shard := &s.shards[i]
		c := meta.FindStatusCondition(shard.Status.Conditions, v1alpha1.ConditionReady)
		served := shard.Spec.Membership.Epoch > 0 && shard.Spec.Membership.Primary != 0
		switch {
		case c != nil && c.Status != metav1.ConditionTrue:
			w.note(shard, c.Reason, c.Message)
		case !served:
			w.note(shard, v1alpha1.ReasonCreating, "its storenodes reserve its space")
		}
	}
	switch {
	case w.reason != "":
		return reconcilers.Verdict{Reason: w.reason, Message: strings.Join(w.named, "; ")}
	case int64(len(s.shards)) < shardCount(s.volume):
		return beingMade()
	}
	return reconcilers.Verdict{OK: true, Reason: v1alpha1.ReasonServing, Message: "All shards serve" + tooShort(s)}
}

func beingMade() reconcilers.Verdict {
	return reconcilers.Verdict{Reason: v1alpha1.ReasonCreating, Message: "Shards are being made"}
}

// tooShort says that somebody asked the Volume to grow, which Shards that are there do not.
func tooShort(s *scope) string {
	v := &s.volume.Spec
	for i := range s.shards {
		spec := &s.shards[i].Spec
		if spec.SizeBytes < min(v.ShardSizeBytes, v.SizeBytes-int64(spec.Index)*v.ShardSizeBytes) {
			return fmt.Sprintf(", and end at %s: volumes cannot grow yet, though sizeBytes asks for %s",
				v1alpha1.BytesText(int64(spec.Index)*v.ShardSizeBytes+spec.SizeBytes), v1alpha1.BytesText(v.SizeBytes))
		}
	}
	return ""
}

// healthy is whether every Shard has all its Replicas InSync, and nothing is lost; the message is of the worst.
func healthy(s *scope) reconcilers.Verdict {
	count := shardCount(s.volume)
	if int64(s.volume.Status.HealthyShards) == count {
		return reconcilers.Verdict{OK: true, Reason: v1alpha1.ReasonAllInSync, Message: "All replicas are in sync"}
	}
	var w worst
	for i := range s.shards {
		shard := &s.shards[i]
		c := meta.FindStatusCondition(shard.Status.Conditions, v1alpha1.ConditionHealthy)
		switch {
		case c == nil:
			w.note(shard, v1alpha1.ReasonCreating, "its storenodes reserve its space")
		case c.Status != metav1.ConditionTrue:
			w.note(shard, c.Reason, c.Message)
		}
	}
	switch {
	case w.reason != "":
		return reconcilers.Verdict{Reason: w.reason, Message: fmt.Sprintf("%d of %d shards are healthy; %s",
			s.volume.Status.HealthyShards, count, strings.Join(w.named, "; "))}
	case s.unmade != nil:
		return *s.unmade
	}
	return beingMade()
}

// remove deletes the Shards once nobody uses them, and lets go of the Volume when there are none.
func (r *Reconciler) remove(ctx context.Context, s *scope) (reconcile.Result, error) {
	if !controllerutil.ContainsFinalizer(s.volume, reconcilers.Finalizer) {
		return reconcile.Result{}, nil
	}
	if attached := attached(s.volume); attached != "" { // its data is in use
		base := s.volume.DeepCopy()
		reconcilers.Set(&s.volume.Status.Conditions, v1alpha1.ConditionReady, reconcilers.Verdict{
			Reason:  v1alpha1.ReasonDeleting,
			Message: "it is attached to " + attached + ", so nothing is deleted until that ends",
		}, s.volume.Generation)
		return reconcile.Result{}, reconcilers.Patch(ctx, r.API, base, s.volume)
	}
	for i := range s.shards {
		if !s.shards[i].DeletionTimestamp.IsZero() {
			continue
		}
		if err := client.IgnoreNotFound(r.API.Delete(ctx, s.shards[i].DeepCopy())); err != nil {
			return reconcile.Result{}, fmt.Errorf("delete shard %s: %w", s.shards[i].Name, err)
		}
	}
	left, err := r.left(ctx, s)
	if err != nil {
		return reconcile.Result{}, err
	}
	if left == 0 {
		controllerutil.RemoveFinalizer(s.volume, reconcilers.Finalizer)
		if err := client.IgnoreNotFound(r.API.Update(ctx, s.volume)); err != nil {
			return conflict(fmt.Errorf("remove finalizer of volume %s: %w", s.volume.Name, err))
		}
		return reconcile.Result{}, nil
	}
	base := s.volume.DeepCopy()
	reconcilers.Set(&s.volume.Status.Conditions, v1alpha1.ConditionReady, waits(s), s.volume.Generation)
	return reconcile.Result{}, reconcilers.Patch(ctx, r.API, base, s.volume)
}

// attached names the nodes that use the Volume.
func attached(v *v1alpha1.Volume) string {
	var nodes []string
	for _, a := range v.Spec.Attachments {
		nodes = append(nodes, "node "+a.NodeName)
	}
	return strings.Join(nodes, ", ")
}

// left is how many Shards there may be: those in the cache and, if it shows none, those that only the API server has. A
// Shard that was made a moment ago must not outlive its Volume. Strangers stay.
func (r *Reconciler) left(ctx context.Context, s *scope) (int, error) {
	if len(s.shards) > 0 {
		return len(s.shards), nil
	}
	var list v1alpha1.ShardList
	if err := r.Live.List(ctx, &list, client.MatchingLabels{reconcilers.VolumeLabel: s.volume.Name}); err != nil {
		return 0, fmt.Errorf("list shards of volume %s: %w", s.volume.Name, err)
	}
	ours, _ := apart(s.volume, list.Items)
	for i := range ours {
		if err := client.IgnoreNotFound(r.API.Delete(ctx, &ours[i])); err != nil {
			return 0, fmt.Errorf("delete shard %s: %w", ours[i].Name, err)
		}
	}
	return len(ours), nil
}

// waits says what the deletion waits for, as the Shards do.
func waits(s *scope) reconcilers.Verdict {
	var named []string
	for i := range s.shards {
		c := meta.FindStatusCondition(s.shards[i].Status.Conditions, v1alpha1.ConditionReady)
		if c != nil && c.Reason == v1alpha1.ReasonDeleting && len(named) < maxNamed {
			named = append(named, fmt.Sprintf("shard %d: %s", s.shards[i].Spec.Index, c.Message))
		}
	}
	message := fmt.Sprintf("%d shards are left", len(s.shards))
	if len(named) > 0 {
		message += ": " + strings.Join(named, "; ")
	}
	return reconcilers.Verdict{Reason: v1alpha1.ReasonDeleting, Message: message}
}
