package volume

import (
	"context"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/reconcilers"
)

func TestOnlyShardsThatMayHaveHadDataAreMissed(t *testing.T) {
	all := []string{"v-0", "v-1", "v-2"}
	for story, c := range map[string]struct {
		attached    int64
		made        int32
		seen        int64
		ready       bool
		reason      string
		wantMissing []string
	}{
		"a new volume":                               {},
		"it found no room yet":                       {seen: 1, reason: v1alpha1.ReasonNoRoom},
		"it was attached before it found room":       {attached: 1, seen: 1, reason: v1alpha1.ReasonNoRoom},
		"it was never used":                          {made: 3, seen: 1, reason: v1alpha1.ReasonNoPrimary},
		"it is ready, however it is used":            {made: 3, seen: 1, ready: true, wantMissing: all},
		"it was attached once":                       {attached: 1, made: 3, seen: 1, wantMissing: all},
		"it grows":                                   {attached: 1, made: 2, seen: 1, ready: true, wantMissing: all[:2]},
		"a backup was restored without status":       {attached: 1, wantMissing: all},
		"a backup was restored and that was noticed": {seen: 1, reason: v1alpha1.ReasonShardMissing, wantMissing: all},
	} {
		v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{SizeBytes: 3, ShardSizeBytes: 1, AttachGeneration: c.attached}}
		v.Name, v.Status.ShardCount, v.Status.ObservedGeneration = "v", c.made, c.seen
		if c.ready || c.reason != "" {
			reconcilers.Set(&v.Status.Conditions, v1alpha1.ConditionReady,
				reconcilers.Verdict{OK: c.ready, Reason: c.reason}, 1)
		}
		if got := hadData(v, missingShards(v, nil)); !slices.Equal(got, c.wantMissing) {
			t.Errorf("%s: got %v, want %v", story, got, c.wantMissing)
		}
	}
}

// A Volume is looked at whenever something of it changes, and the API server has better things to do.
func TestMissingShardsAreLookedForOnceForEachThatIsMissing(t *testing.T) {
	known := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(known); err != nil {
		t.Fatal(err)
	}
	lists := 0
	live := fake.NewClientBuilder().WithScheme(known).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, o ...client.ListOption) error {
			lists++
			return c.List(ctx, l, o...)
		},
	}).Build()
	told := events.NewFakeRecorder(9)
	r := &Reconciler{Live: live, Events: told}
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{SizeBytes: 3, ShardSizeBytes: 1, AttachGeneration: 1}}
	v.Name, v.Status.ShardCount = "v", 3
	missing := missingShards(v, nil)
	for pass, c := range []struct {
		missing []*v1alpha1.Shard
		lists   int
	}{{missing[:1], 1}, {missing[:1], 1}, {missing[:2], 2}, {missing[:2], 2}} {
		s := &scope{volume: v}
		if lost, err := r.lost(t.Context(), s, c.missing); err != nil || !lost || s.unmade == nil {
			t.Fatalf("pass %d: lost is %v, %v, %+v", pass, lost, err, s.unmade)
		}
		reconcilers.Set(&v.Status.Conditions, v1alpha1.ConditionReady, *s.unmade, 1)
		if lists != c.lists || len(told.Events) != 1 {
			t.Errorf("pass %d: looked %d times and told %d, want %d and 1", pass, lists, len(told.Events), c.lists)
		}
	}
}
