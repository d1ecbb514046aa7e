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
	look := func(healed, lost uint64) []string {
		f.tell(t.Context(), []shard.Status{{
			Key: ident.ReplicaKey{Replica: 1}, Findings: shard.Findings{Healed: healed, Lost: lost, Last: "the last"},
		}})
		var told []string
		for len(recorder.Events) > 0 {
			told = append(told, strings.Fields(<-recorder.Events)[1])
		}
		return told
	}
	for i, step := range []struct {
		healed, lost uint64
		known        bool
		want         []string
	}{
		{0, 0, true, nil},
		{2, 0, false, nil}, // its object is not known yet
		{3, 0, true, []string{"BlocksHealed"}},
		{3, 0, true, nil},
		{4, 2, true, []string{"BlocksHealed", "BlocksLost"}},
		{1, 0, true, []string{"BlocksHealed"}}, // in service anew
	} {
		known = step.known
		if got := look(step.healed, step.lost); !slices.Equal(got, step.want) {
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
