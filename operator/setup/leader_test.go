package setup

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// contender is one of several operators.
type contender struct {
	manager.Manager
	writes *atomic.Int64
	// end it as a pod that is deleted, and wait for that.
	end func()
}

// contend starts an operator that is to work only while it leads.
func contend(t *testing.T) *contender {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &contender{writes: &atomic.Int64{}}
	var err error
	c.Manager, err = Manager(ctx, cluster, Options{
		Namespace: namespace, LeaderElect: true, ReplaceAfter: defaultReplaceAfter, Registry: prometheus.NewRegistry(),
		Log: slog.New(slog.DiscardHandler), SkipNameValidation: true, unhurried: 20,
		Wrap: failing(c.writes, -1, false), // counts, and fails none
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Start(ctx); err != nil {
			t.Errorf("run operator: %v", err)
		}
	})
	c.end = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(c.end)
	if !c.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("an operator sees nothing")
	}
	return c
}

func (c *contender) leads() bool {
	select {
	case <-c.Elected():
		return true
	default:
		return false
	}
}

// seen makes a Pool and waits until an operator has said something of it.
func (w *world) seen(pool string) {
	w.t.Helper()
	p := &v1alpha1.Pool{
		ObjectMeta: metav1.ObjectMeta{Name: pool},
		Spec:       v1alpha1.PoolSpec{DeviceSelector: v1alpha1.DeviceSelector{Paths: []string{"/dev/x"}}},
	}
	w.must(w.api.Create(w.t.Context(), p))
	w.until("an operator to look at pool "+pool, func() (bool, string) {
		err := w.api.Get(w.t.Context(), client.ObjectKeyFromObject(p), p)
		ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
		return err == nil && ready != nil, fmt.Sprint(p.Status, err)
	})
}

func TestOneOperatorLeadsAndAnotherTakesOverWhenItEnds(t *testing.T) {
	w := &world{t: t, api: newAPI(t)}
	t.Cleanup(w.wipe)
	first := contend(t)
	w.until("the first operator to lead", func() (bool, string) { return first.leads(), "none leads" })
	second := contend(t)
	w.seen("one")
	if second.leads() || second.writes.Load() > 0 || first.writes.Load() == 0 {
		t.Errorf("the second operator leads: %v; the first has written %d times, the second %d times", second.leads(),
			first.writes.Load(), second.writes.Load())
	}
	first.end()
	written := first.writes.Load()
	w.seen("two")
	if !second.leads() || second.writes.Load() == 0 || first.writes.Load() > written {
		t.Error("the second operator does not work in place of the first")
	}
}
