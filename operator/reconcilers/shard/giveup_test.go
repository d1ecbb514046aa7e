package shard

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/liveness"
)

func TestReplicasAreGivenUpOnlyOfNodesThatWereFoundSilent(t *testing.T) {
	long := liveness.State{Heard: true, DeadFor: time.Hour}
	never := liveness.State{DeadFor: time.Hour}
	for story, c := range map[string]struct {
		name, reason string
		state        liveness.State
		want         string
	}{
		"it was found dead":                       {"n1", v1alpha1.ReasonNodeDead, long, ""},
		"it seems dead, as do most":               {"n1", v1alpha1.ReasonTooManySilent, long, ""},
		"it seems dead, somebody works on it":     {"n1", v1alpha1.ReasonInMaintenance, long, ""},
		"it seems dead, and was never heard of":   {"n1", v1alpha1.ReasonNoLease, never, ""},
		"it was never heard of until a while ago": {"n1", v1alpha1.ReasonNoLease, long, v1alpha1.ReasonNoLease},
		"nobody has watched for long enough": {
			"n1", v1alpha1.ReasonNoLease, liveness.State{Alive: true}, v1alpha1.ReasonSuspected,
		},
		"its host answers":      {"n1", v1alpha1.ReasonHostAnswers, long, v1alpha1.ReasonHostAnswers},
		"its kubelet was heard": {"n1", v1alpha1.ReasonKubeletAlive, long, v1alpha1.ReasonKubeletAlive},
		"it is being asked":     {"n1", v1alpha1.ReasonSuspected, long, v1alpha1.ReasonSuspected},
		"nobody has looked since it was silent": {
			"n1", v1alpha1.ReasonStorenodeAlive, long, v1alpha1.ReasonStorenodeAlive,
		},
		"nobody has ever looked": {"n1", "", long, v1alpha1.ReasonSuspected},
		"the reason may be of an earlier death": {
			"n1", v1alpha1.ReasonNodeDead, liveness.State{DeadFor: time.Second}, v1alpha1.ReasonSuspected,
		},
		"a person said that it will not be back": {"", "", long, ""},
	} {
		t.Run(story, func(t *testing.T) {
			node := &v1alpha1.StoreNode{ObjectMeta: metav1.ObjectMeta{Name: c.name}}
			if c.reason != "" {
				node.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionNodeAlive, Reason: c.reason}}
			}
			if got := hostSign(node, c.state); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// An API server takes no event with a longer note.
func TestRefusalOfALongRequestIsToldBriefly(t *testing.T) {
	object := replicated(2, 1, 2)
	object.Name = "v-0"
	object.Annotations = map[string]string{v1alpha1.GiveUpAnnotation: strings.Repeat("ä", v1alpha1.MaxNote)}
	told := events.NewFakeRecorder(1)
	api := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(object).Build()
	r := &Reconciler{API: api, Events: told, Log: slog.New(slog.DiscardHandler)}
	if err := r.giveUp(t.Context(), &scope{shard: object}); err != nil {
		t.Fatal(err)
	}
	event := <-told.Events
	note, refused := strings.CutPrefix(event, "Warning GiveUpRefused ")
	if !refused || !strings.HasPrefix(note, "nothing was given up") || len(note) > v1alpha1.MaxNote {
		t.Errorf("got %d bytes: %s", len(note), event)
	}
}
