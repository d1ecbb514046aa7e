package volume

import (
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/reconcilers"
)

func TestVolumeThatIsAskedToGrowSaysThatItDoesNot(t *testing.T) {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{SizeBytes: 48 << 30, ShardSizeBytes: 32 << 30}}
	s := &scope{volume: v}
	for _, missing := range missingShards(v, nil) {
		missing.Spec.Membership = v1alpha1.ShardMembership{Epoch: 1, Primary: 1}
		s.shards = append(s.shards, *missing)
	}
	if got := ready(s); !got.OK || strings.Contains(got.Message, "grow") {
		t.Errorf("as it was made: %+v", got)
	}
	v.Spec.SizeBytes = 64 << 30
	if got := ready(s); !got.OK || !strings.Contains(got.Message, "end at 48") {
		t.Errorf("asked to grow: %+v", got)
	}
}

func TestVolumeIsAsHealthyAsTheWorstOfItsShards(t *testing.T) {
	bad := func(reason, message string) reconcilers.Verdict {
		return reconcilers.Verdict{Reason: reason, Message: message}
	}
	fine := reconcilers.Verdict{OK: true, Reason: v1alpha1.ReasonAllInSync}
	for story, c := range map[string]struct {
		shards        []reconcilers.Verdict
		unmade        *reconcilers.Verdict
		want, message string
	}{
		"all are fine": {[]reconcilers.Verdict{fine, fine}, nil, v1alpha1.ReasonAllInSync, "All replicas are in sync"},
		"one is out": {
			[]reconcilers.Verdict{fine, bad(v1alpha1.ReasonDegraded, "out: n1")},
			nil,
			v1alpha1.ReasonDegraded, "1 of 2 shards are healthy; shard 1: out: n1",
		},
		"all Replicas are in sync, and a Block is lost": {
			[]reconcilers.Verdict{fine, bad(v1alpha1.ReasonBlocksLost, "1 block")},
			nil,
			v1alpha1.ReasonBlocksLost, "1 of 2 shards are healthy; shard 1: 1 block",
		},
		"one is lost for good, one only rebuilt": {
			[]reconcilers.Verdict{bad(v1alpha1.ReasonNoReplacement, "no room"), bad(v1alpha1.ReasonRebuilding, "")},
			nil,
			v1alpha1.ReasonNoReplacement, "0 of 2 shards are healthy; shard 0: no room",
		},
		"some are not made yet": {[]reconcilers.Verdict{fine}, nil, v1alpha1.ReasonCreating, "Shards are being made"},
		"some cannot be made": {
			nil, &reconcilers.Verdict{Reason: v1alpha1.ReasonNoRoom, Message: "full"}, v1alpha1.ReasonNoRoom, "full",
		},
	} {
		v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{SizeBytes: 2, ShardSizeBytes: 1}}
		s := &scope{volume: v, unmade: c.unmade}
		for i, verdict := range c.shards {
			shard := missingShards(v, nil)[i]
			reconcilers.Set(&shard.Status.Conditions, v1alpha1.ConditionHealthy, verdict, 1)
			s.shards = append(s.shards, *shard)
			if verdict.OK {
				v.Status.HealthyShards++
			}
		}
		if got := healthy(s); got.Reason != c.want || got.Message != c.message || got.OK != (c.want == fine.Reason) {
			t.Errorf("%s: got %+v, want %s %q", story, got, c.want, c.message)
		}
	}
}

// A pass that the cache shows the Volume from before the last one finds nothing to write, and no event follows.
func TestVolumeWhoseConditionsChangedIsLookedAtAgain(t *testing.T) {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: "new", SizeBytes: 1, ShardSizeBytes: 1}}
	v.Name = "v"
	s := served(0, "new")
	reconcilers.Set(&s.Status.Conditions, v1alpha1.ConditionHealthy, reconcilers.Verdict{OK: true, Reason: "x"}, 1)
	r := reconciler(t, false, v, s)
	request := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(v)}
	for pass, want := range []time.Duration{lookAgain, 0} {
		if got, err := r.Reconcile(t.Context(), request); err != nil || got.RequeueAfter != want {
			t.Errorf("pass %d: looked at again in %s, %v, want %s", pass, got.RequeueAfter, err, want)
		}
	}
}
