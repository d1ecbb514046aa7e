package shard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/failover"
	"github.com/shale-storage/shale/operator/reconcilers"
)

// tell writes the status: conditions, and what is derived for people. The Replicas' own entries are not touched.
func (r *Reconciler) tell(ctx context.Context, s *scope) error {
	shard := s.shard
	base := shard.DeepCopy()
	ready, healthy := ready(s), healthy(s)
	reconcilers.Set(&shard.Status.Conditions, v1alpha1.ConditionReady, ready, shard.Generation)
	reconcilers.Set(&shard.Status.Conditions, v1alpha1.ConditionHealthy, healthy, shard.Generation)
	r.tellKept(s)
	shard.Status.ObservedGeneration = shard.Generation
	shard.Status.LostReplicas = slices.DeleteFunc(s.lostNow, func(l v1alpha1.LostReplica) bool {
		return !slices.ContainsFunc(shard.Spec.Replicas, func(r v1alpha1.ShardReplica) bool { return r.ID == l.ID })
	})
	shard.Status.Contents = s.contents(metav1.NewTime(r.Clock.Now()).Rfc3339Copy())
	shard.Status.PrimaryNode, shard.Status.InSyncNodes, shard.Status.Rebuild = "", "", ""
	var inSync, rebuild []string
	for _, replica := range shard.Spec.Replicas {
		if replica.ID == shard.Spec.Membership.Primary {
			shard.Status.PrimaryNode = s.node(replica)
		}
		if slices.Contains(shard.Spec.Membership.InSync, replica.ID) {
			inSync = append(inSync, s.node(replica))
		}
		if s.rebuilding(replica.ID) {
			rebuild = append(rebuild, progress(s.node(replica), s.reports[replica.ID]))
		}
	}
	shard.Status.InSyncNodes, shard.Status.Rebuild = strings.Join(inSync, ","), strings.Join(rebuild, ",")
	served := shard.Spec.Membership.Epoch > 0
	waits := ready.Reason == v1alpha1.ReasonNoPrimary || ready.Reason == v1alpha1.ReasonWaitsForReplicas ||
		s.disputed() != ""
	r.Metrics.Unavailable.Put(shard.Name, served && !ready.OK && waits)
	r.Metrics.Degraded.Put(shard.Name, served && !healthy.OK)
	r.Metrics.TooFew.Put(shard.Name, served && len(shard.Spec.Membership.InSync) < s.needed())
	return reconcilers.Patch(ctx, r.API, base, shard)
}

// tellKept says why a Shard that somebody deleted goes on being served; once by an event.
func (r *Reconciler) tellKept(s *scope) {
	conditions := &s.shard.Status.Conditions
	if s.goes || s.shard.DeletionTimestamp.IsZero() {
		meta.RemoveStatusCondition(conditions, v1alpha1.ConditionDeletable)
		return
	}
	why := fmt.Sprintf("it was deleted, but its volume %s exists, and a shard goes with its volume only: nothing is "+
		"given back, it goes on being served. To delete it, delete the volume", s.volume.Name)
	if meta.FindStatusCondition(*conditions, v1alpha1.ConditionDeletable) == nil {
		r.Events.Eventf(s.shard, nil, corev1.EventTypeWarning, v1alpha1.ReasonVolumeExists, "Delete", "%s", why)
	}
	reconcilers.Set(conditions, v1alpha1.ConditionDeletable,
		reconcilers.Verdict{Reason: v1alpha1.ReasonVolumeExists, Message: why}, s.shard.Generation)
}

// node is where a Replica is now: its Device may have moved since it was placed.
func (s *scope) node(replica v1alpha1.ShardReplica) string {
	for _, seen := range s.seen.Replicas {
		if seen.ID == replica.ID {
			return seen.Node
		}
	}
	return replica.NodeName
}

// rebuilding reports whether a Rebuild goes on. What a storenode that died, or lost the Device, said last does not
// count.
func (s *scope) rebuilding(id int64) bool {
	for _, seen := range s.seen.Replicas {
		if seen.ID == id {
			return s.rebuilds(id) && s.alive[seen.Node].Alive && !seen.Failed && !seen.Gone
		}
	}
	return false
}

func ready(s *scope) reconcilers.Verdict {
	m := s.shard.Spec.Membership
	switch {
	case s.goes:
		return reconcilers.Verdict{Reason: v1alpha1.ReasonDeleting, Message: strings.Join(s.waitsFor, "; ")}
	case s.disputed() != "":
		return reconcilers.Verdict{Reason: v1alpha1.ReasonStaleRecord, Message: s.disputed()}
	case s.stale() != "" && (m.Epoch == 0 || s.decision.Action != failover.Keep):
		return reconcilers.Verdict{Reason: v1alpha1.ReasonStaleRecord, Message: s.stale()}
	case s.noRoom != "":
		return reconcilers.Verdict{Reason: v1alpha1.ReasonNoRoom, Message: s.noRoom}
	case m.Epoch == 0:
		return reconcilers.Verdict{
			Reason: v1alpha1.ReasonCreating, Message: "waiting for " + strings.Join(s.uncreated(), ", "),
		}
	case s.decision.Action == failover.Refuse:
		return reconcilers.Verdict{Reason: v1alpha1.ReasonNoPrimary, Message: s.lossText(s.decision.Message)}
	case s.losing:
		return reconcilers.Verdict{Reason: v1alpha1.ReasonWaitsForReplicas, Message: s.lossText(
			fmt.Sprintf("replica %d is primary and lost power, so it waits for who may have more", m.Primary))}
	case len(m.InSync) < s.needed():
		return reconcilers.Verdict{Reason: v1alpha1.ReasonTooFewInSync, Message: s.tooFew()}
	}
	return reconcilers.Verdict{
		OK: true, Reason: v1alpha1.ReasonServing,
		Message: fmt.Sprintf("Replica %d is primary in epoch %d", m.Primary, m.Epoch),
	}
}

// needed is how many Replicas must be InSync for changes to be acknowledged.
func (s *scope) needed() int { return int(s.shard.Spec.NeededInSync()) }

// tooFew says why changes are not acknowledged, and who has to come back.
func (s *scope) tooFew() string {
	text := fmt.Sprintf("%d replicas are in sync and minInSync is %d, so writes wait and then fail; reads go on",
		len(s.shard.Spec.Membership.InSync), s.needed())
	if out := s.outOfSync(); len(out) > 0 {
		text += "; to be in sync again: " + strings.Join(out, ", ")
	}
	return text
}

// lossText says after what is wrong what people can do about it.
func (s *scope) lossText(wrong string) string {
	if !s.losing {
		return wrong
	}
	return wrong + "; " + s.loss.Text(s.shard.Name, s.seen.Epoch)
}

// uncreated names the storenodes that have not reported their Replica.
func (s *scope) uncreated() []string {
	var names []string
	for _, replica := range s.shard.Spec.Replicas {
		if s.reports[replica.ID] == nil {
			names = append(names, "storenode "+s.node(replica))
		}
	}
	return names
}

func healthy(s *scope) reconcilers.Verdict {
	m := s.shard.Spec.Membership
	wanted := s.seen.Wanted
	if s.volume == nil {
		wanted = len(s.shard.Spec.Replicas)
	}
	text := fmt.Sprintf("%d of %d replicas are in sync", len(m.InSync), wanted)
	switch {
	case m.Epoch == 0:
		return reconcilers.Verdict{Reason: v1alpha1.ReasonCreating, Message: text}
	case s.stale() != "":
		return reconcilers.Verdict{Reason: v1alpha1.ReasonStaleRecord, Message: s.stale()}
	case s.lostBlocks() > 0:
		return reconcilers.Verdict{Reason: v1alpha1.ReasonBlocksLost, Message: fmt.Sprintf(
			"%d blocks can be read from no replica until they are written again; %s", s.lostBlocks(), text)}
	case len(m.InSync) >= wanted:
		return reconcilers.Verdict{OK: true, Reason: v1alpha1.ReasonAllInSync, Message: text}
	case s.noReplacement != "":
		return reconcilers.Verdict{Reason: v1alpha1.ReasonNoReplacement, Message: text + "; " + s.noReplacement}
	}
	for _, replica := range s.shard.Spec.Replicas {
		if s.rebuilding(replica.ID) {
			return reconcilers.Verdict{Reason: v1alpha1.ReasonRebuilding, Message: text}
		}
	}
	if out := s.outOfSync(); len(out) > 0 {
		text += "; out: " + strings.Join(out, ", ")
	}
	return reconcilers.Verdict{Reason: v1alpha1.ReasonDegraded, Message: text}
}

// progress of a Rebuild, for people: how far it is, and how long it is expected to take yet.
func progress(node string, report *v1alpha1.ShardReplicaStatus) string {
	text := fmt.Sprintf("%s %d%%", node, report.RebuildPercent)
	if left := time.Duration(report.RebuildSecondsLeft) * time.Second; left > 0 {
		text += " " + left.String()
	}
	return text
}

// lostBlocks is what the Primary tells of Blocks that nobody can read.
func (s *scope) lostBlocks() int64 {
	if report := s.reports[s.shard.Spec.Membership.Primary]; report != nil {
		return report.LostBlocks
	}
	return 0
}

// outOfSync names the Replicas that are not InSync, and why if that is known.
func (s *scope) outOfSync() []string {
	var out []string
	for _, replica := range s.seen.Replicas {
		if slices.Contains(s.shard.Spec.Membership.InSync, replica.ID) {
			continue
		}
		text := fmt.Sprintf("replica %d on node %s", replica.ID, replica.Node)
		switch {
		case replica.Gone:
			text += " (its device was deleted)"
		case !s.alive[replica.Node].Alive:
			text += " (its storenode is down)"
		case replica.Failed:
			text += " (failed: " + s.failures[replica.ID] + ")"
		case s.stalled[replica.ID]:
			text += " (its device does not answer)"
		case s.rebuilds(replica.ID):
			text += fmt.Sprintf(" (rebuilding, %d%%)", s.reports[replica.ID].RebuildPercent)
		}
		if s.cramped[replica.ID] {
			text += " (its device is full; what it lacks may need space there: discard or delete data)"
		}
		out = append(out, text)
	}
	return out
}

// stale says that a Replica has seen a newer Epoch than the object has, or another record of the same: no writer lets a
// Replica see a record before the object has it, so the object was set back. Then the object must not be acted on: it
// may name as InSync who missed acknowledged writes.
func (s *scope) stale() string {
	for i := range s.shard.Status.Replicas {
		report := &s.shard.Status.Replicas[i]
		if report.Epoch <= s.shard.Spec.Membership.Epoch {
			continue
		}
		return fmt.Sprintf("%s has seen epoch %d, the object has %d: was the API server restored from "+
			"a backup? Nothing is promoted, replaced or removed until the newer record is written into the object: see "+
			"docs/operate/restored-api-server.md", s.named(report.ID), report.Epoch, s.shard.Spec.Membership.Epoch)
	}
	return s.disputed()
}

// disputed says that a Replica knows of two records of one Epoch, and the object has none above them: nobody serves.
func (s *scope) disputed() string {
	for i := range s.shard.Status.Replicas {
		report := &s.shard.Status.Replicas[i]
		if !report.Disputed || report.Epoch < s.shard.Spec.Membership.Epoch {
			continue
		}
		return fmt.Sprintf("%s knows of two records of epoch %d: was the API server restored from a backup? Nothing is "+
			"served, promoted, replaced or removed until the right one is written into the object with a higher epoch: see "+
			"docs/operate/restored-api-server.md", s.named(report.ID), report.Epoch)
	}
	return ""
}

// named is a Replica with its node, if it is one of the Shard's.
func (s *scope) named(id int64) string {
	text := fmt.Sprintf("replica %d", id)
	for _, replica := range s.shard.Spec.Replicas {
		if replica.ID == id {
			text += " on node " + s.node(replica)
		}
	}
	return text
}
