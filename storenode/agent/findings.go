package agent

import (
	"context"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/shard"
)

// findings tells people, by an event on the Shard, when its Primary has found damage: at most one for each kind at a
// look, however many Blocks there were. Used by one goroutine.
type findings struct {
	api    client.Client
	events events.EventRecorder
	name   func(ident.ShardID) (string, bool)
	log    *slog.Logger
	// told is what was known at the last look.
	told map[ident.ReplicaKey]shard.Findings
}

// tell looks for what is new. What cannot be told now, because the object is not to be had, is told at a later look.
func (f *findings) tell(ctx context.Context, statuses []shard.Status) {
	here := make(map[ident.ReplicaKey]shard.Findings, len(statuses))
	for i := range statuses {
		s := &statuses[i]
		before := f.told[s.Key]
		now := s.Findings
		if now.Healed < before.Healed || now.Lost < before.Lost || now.Different < before.Different ||
			now.Stuck < before.Stuck || now.Slow < before.Slow {
			before = shard.Findings{} // the Replica is in service anew
		}
		here[s.Key] = now
		if now != before && !f.emit(ctx, s, before) {
			here[s.Key] = before
		}
	}
	f.told = here
}

func (f *findings) emit(ctx context.Context, s *shard.Status, before shard.Findings) bool {
	name, ok := f.name(s.Key.Shard)
	if !ok {
		return false
	}
	var object v1alpha1.Shard
	if err := f.api.Get(ctx, client.ObjectKey{Name: name}, &object); err != nil {
		f.log.Debug("Could not tell of damaged blocks yet", "shard", name, "error", err)
		return false
	}
	now := s.Findings
	if n := now.Healed - before.Healed; n > 0 {
		f.events.Eventf(&object, nil, corev1.EventTypeWarning, "BlocksHealed", "Heal",
			"damaged blocks were healed %d times; the last finding: %s", n, now.Last)
	}
	if n := now.Lost - before.Lost; n > 0 {
		f.events.Eventf(&object, nil, corev1.EventTypeWarning, v1alpha1.ReasonBlocksLost, "Heal",
			"%d blocks can be read from no replica until they are written again; the last finding: %s", n, now.Last)
	}
	if n := now.Different - before.Different; n > 0 {
		f.events.Eventf(&object, nil, corev1.EventTypeWarning, "ReplicasDiffer", "Scrub",
			"replicas in sync differed %d times and were made equal to the primary; the last finding: %s", n, now.Last)
	}
	if n := now.Stuck - before.Stuck; n > 0 {
		f.events.Eventf(&object, nil, corev1.EventTypeWarning, v1alpha1.ReasonStalled, "HandOver",
			"the primary left %d times because its device did not answer; the last finding: %s", n, now.Last)
	}
	if n := now.Slow - before.Slow; n > 0 {
		f.events.Eventf(&object, nil, corev1.EventTypeWarning, "ReplicaSlow", "Evict",
			"a replica made all writes slow %d times and was left out for a while; the last finding: %s", n, now.Last)
	}
	return true
}

// sick tells of a Device's condition, when it turns bad or has another message.
func (f *findings) sick(d *v1alpha1.Device, c metav1.Condition) {
	f.events.Eventf(d, nil, corev1.EventTypeWarning, c.Reason, "Watch", "%s",
		v1alpha1.Brief(c.Message, v1alpha1.MaxNote))
}
