package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/reconcilers"
)

// lost reports whether Shards are missing that may have had data, and says so. Nothing but an object is missing then:
// somebody removed it past its finalizer, or a backup was restored without it. What is on the Devices is still there.
func (r *Reconciler) lost(ctx context.Context, s *scope, missing []*v1alpha1.Shard) (bool, error) {
	names := hadData(s.volume, missing)
	if len(names) == 0 {
		return false, nil
	}
	if c := readiness(s.volume); c != nil && c.Reason == v1alpha1.ReasonShardMissing && c.Message == missingText(names) {
		s.unmade = &reconcilers.Verdict{Reason: c.Reason, Message: c.Message}
		return true, nil // told already, after the look below
	}
	var list v1alpha1.ShardList // the cache may be behind
	if err := r.Live.List(ctx, &list, client.MatchingLabels{reconcilers.VolumeLabel: s.volume.Name}); err != nil {
		return false, fmt.Errorf("list shards of volume %s: %w", s.volume.Name, err)
	}
	ours, _ := apart(s.volume, list.Items)
	for i := range ours {
		if at := slices.Index(names, ours[i].Name); at >= 0 {
			names = slices.Delete(names, at, at+1)
			s.shards = append(s.shards, ours[i])
		}
	}
	if len(names) == 0 {
		return true, nil
	}
	s.unmade = &reconcilers.Verdict{Reason: v1alpha1.ReasonShardMissing, Message: missingText(names)}
	if c := readiness(s.volume); c == nil || c.Reason != v1alpha1.ReasonShardMissing {
		r.Events.Eventf(s.volume, nil, corev1.EventTypeWarning, v1alpha1.ReasonShardMissing, "Make", "%s", s.unmade.Message)
	}
	return true, nil
}

func missingText(names []string) string {
	more := ""
	if len(names) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(names)-maxNamed)
	}
	return fmt.Sprintf("the objects of shards %s%s are missing, and the volume may hold data: they are not made anew, "+
		"empty. Their data may be on devices yet: see docs/operate/missing-shards.md",
		strings.Join(names[:min(len(names), maxNamed)], ", "), more)
}

// hadData names those of the Shards that may have had data. Nobody writes to a Volume without attaching it, and its
// generation never goes back; that it was seen Ready is for those who find another way. Shards beyond those that were
// made are new: somebody asked the Volume to grow. How many were made is not known if the status was lost. A Volume
// that says that a stranger is in the place of a Shard may have said before that it is missing, unless none was made.
func hadData(v *v1alpha1.Volume, missing []*v1alpha1.Shard) []string {
	c := readiness(v)
	made := v.Status.ShardCount
	told := c != nil && (c.Reason == v1alpha1.ReasonShardMissing || c.Reason == v1alpha1.ReasonOtherVolume && made > 0)
	ready := c != nil && c.Status == metav1.ConditionTrue
	if v.Spec.AttachGeneration == 0 && !ready && !told {
		return nil
	}
	unknown := made == 0 && (v.Status.ObservedGeneration == 0 || told)
	var names []string
	for _, shard := range missing {
		if unknown || shard.Spec.Index < made {
			names = append(names, shard.Name)
		}
	}
	return names
}

func readiness(v *v1alpha1.Volume) *metav1.Condition {
	return meta.FindStatusCondition(v.Status.Conditions, v1alpha1.ConditionReady)
}
