package agent

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// unreachable is what the StoreNode object n1 says.
func unreachable(t *testing.T, api client.Reader) []string {
	t.Helper()
	var node v1alpha1.StoreNode
	if err := api.Get(t.Context(), client.ObjectKey{Name: "n1"}, &node); err != nil {
		t.Fatal(err)
	}
	return node.Status.Unreachable
}

// The cache has not seen yet that a storenode was silent when it is heard again.
func TestStorenodeThatIsHeardAgainAtOnceIsNotToldOfForEver(t *testing.T) {
	node := &v1alpha1.StoreNode{}
	node.Name = "n1"
	live := kubernetes(t, interceptor.Funcs{}, node)
	behind := node.DeepCopy()
	api := interceptor.NewClient(live, interceptor.Funcs{Get: func(
		_ context.Context, _ client.WithWatch, _ client.ObjectKey, o client.Object, _ ...client.GetOption,
	) error {
		behind.DeepCopyInto(o.(*v1alpha1.StoreNode))
		return nil
	}})
	s := &silence{
		api: api, reader: live, node: "n1", log: slog.New(slog.DiscardHandler),
		nodes: func(_ context.Context, addresses []string) []string { return addresses },
	}
	for _, want := range [][]string{{"n2"}, nil, {"n2", "n3"}, {"n3"}} {
		if err := s.write(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got := unreachable(t, live); !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	}
}

// An API server that is restored from a backup, or a person, sets back what was told.
func TestSilenceThatAnAPIServerForgetsIsToldAgain(t *testing.T) {
	node := &v1alpha1.StoreNode{}
	node.Name = "n1"
	api := kubernetes(t, interceptor.Funcs{}, node)
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	s := &silence{
		api: api, reader: api, clock: clock, node: "n1", log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1),
		nodes: func(_ context.Context, addresses []string) []string { return addresses },
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	s.set([]string{"n2"})
	told := func(story string) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for !slices.Equal(unreachable(t, api), []string{"n2"}) {
			clock.Step(lookAgainEvery)
			if time.Now().After(deadline) {
				t.Fatalf("%s: told %v", story, unreachable(t, api))
			}
			time.Sleep(time.Millisecond)
		}
	}
	told("at first")
	if err := api.Get(t.Context(), client.ObjectKey{Name: "n1"}, node); err != nil {
		t.Fatal(err)
	}
	node.Status.Unreachable = nil
	if err := api.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	told("set back")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
