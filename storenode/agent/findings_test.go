package agent

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/shard"
)

func TestDamageIsToldOnceByEventsOnItsShard(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	object := &v1alpha1.Shard{}
	object.Name = "v-0"
	recorder := events.NewFakeRecorder(16)
	known := false
	f := &findings{
		api:    fake.NewClientBuilder().WithScheme(scheme).WithObjects(object).Build(),
		events: recorder, log: slog.New(slog.DiscardHandler), told: map[ident.ReplicaKey]shard.Findings{},
		name: func(ident.ShardID) (string, bool) { return object.Name, known },
	}
	look := func(found shard.Findings) []string {
		found.Last = "the last"
		f.tell(t.Context(), []shard.Status{{Key: ident.ReplicaKey{Replica: 1}, Findings: found}})
		var told []string
		for len(recorder.Events) > 0 {
			event := <-recorder.Events
			if !strings.HasSuffix(event, "; the last finding: the last") {
				t.Errorf("%q does not say what was found", event)
			}
			told = append(told, strings.Fields(event)[1])
		}
		return told
	}
	for i, step := range []struct {
		found shard.Findings
		known bool
		want  []string
	}{
		{shard.Findings{}, true, nil},
		{shard.Findings{Healed: 2}, false, nil}, // its object is not known yet
		{shard.Findings{Healed: 3}, true, []string{"BlocksHealed"}},
		{shard.Findings{Healed: 3}, true, nil},
		{shard.Findings{Healed: 4, Lost: 2}, true, []string{"BlocksHealed", "BlocksLost"}},
		{shard.Findings{Healed: 1}, true, []string{"BlocksHealed"}}, // in service anew
		{shard.Findings{Healed: 1, Different: 1}, true, []string{"ReplicasDiffer"}},
		{shard.Findings{Healed: 1, Different: 1, Stuck: 1}, true, []string{"Stalled"}},
		{shard.Findings{Healed: 1, Different: 1, Stuck: 1, Slow: 1}, true, []string{"ReplicaSlow"}},
		{shard.Findings{Different: 1, Stuck: 1, Slow: 1}, true, []string{"ReplicasDiffer", "Stalled", "ReplicaSlow"}},
		{shard.Findings{Different: 1, Stuck: 1, Slow: 1}, true, nil},
	} {
		known = step.known
		if got := look(step.found); !slices.Equal(got, step.want) {
			t.Errorf("look %d told %q, want %q", i, got, step.want)
		}
	}
}

// An API server takes no event with a longer note.
func TestSickDeviceIsToldOfBriefly(t *testing.T) {
	recorder := events.NewFakeRecorder(1)
	f := &findings{events: recorder}
	f.sick(&v1alpha1.Device{}, metav1.Condition{
		Reason: v1alpha1.ReasonIOErrors, Message: strings.Repeat("ä", v1alpha1.MaxNote),
	})
	note, told := strings.CutPrefix(<-recorder.Events, "Warning IOErrors ")
	if !told || len(note) > v1alpha1.MaxNote {
		t.Errorf("got %d bytes: %s", len(note), note)
	}
}
