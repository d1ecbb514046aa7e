package storenode

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/evacuation"
	"github.com/shale-storage/shale/operator/liveness"
	"github.com/shale-storage/shale/operator/metrics"
)

// rack is a Reconciler of StoreNodes n1, n2, …, each with its Node, and their hosts.
type rack struct {
	t     *testing.T
	api   client.Client
	clock *clocktesting.FakePassiveClock
	r     *Reconciler
	names []string
	// hosts says what a host answers; asked are those that were.
	hosts map[string]func() bool
	asked []string
	count int
}

func newRack(t *testing.T, calls interceptor.Funcs, names ...string) *rack {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	b := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.StoreNode{}, &corev1.Node{}).
		WithInterceptorFuncs(calls).WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string {
		p, _ := o.(*corev1.Pod)
		return []string{p.Spec.NodeName}
	})
	for _, name := range names {
		b.WithObjects(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, &v1alpha1.StoreNode{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       v1alpha1.StoreNodeSpec{Addresses: map[string]string{"tcp": name + ":7800"}},
		})
	}
	clock := clocktesting.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	alive, log, m := liveness.New(clock), slog.New(slog.DiscardHandler), metrics.New(prometheus.NewRegistry())
	k := &rack{t: t, api: b.Build(), clock: clock, names: names, hosts: map[string]func() bool{}}
	k.r = &Reconciler{
		API: k.api, Alive: alive, Metrics: m, Log: log, Changed: make(chan event.GenericEvent, 100),
		Nodes: &Nodes{
			API: k.api, Alive: alive, Hosts: k, Metrics: m, Log: log,
			Evacuator: &evacuation.Evacuator{API: k.api, Live: k.api, Events: &events.FakeRecorder{}},
		},
	}
	return k
}

// Answer makes the rack its own hosts: each has the address NODE:7800, and answers if nothing else is said. One at a
// time.
func (k *rack) Answer(_ context.Context, addresses []string) bool {
	k.r.mu.Lock()
	defer k.r.mu.Unlock()
	node, _, _ := strings.Cut(addresses[0], ":")
	k.asked = append(k.asked, node)
	if answers := k.hosts[node]; answers != nil {
		return answers()
	}
	return true
}

func silent() bool { return false }

// renew the Leases of storenodes, or of kubelets.
func (k *rack) renew(names ...string) {
	k.count++
	for _, name := range names {
		r := liveness.Renewal{Holder: name, Renewed: time.Unix(int64(k.count), 0)}
		if strings.HasPrefix(name, liveness.Kubelet("")) {
			r.Duration = 40 * time.Second
		}
		k.r.Alive.Observe(name, r)
	}
}

// pass lets seconds go by, in each of which those given renew.
func (k *rack) pass(seconds int, names ...string) {
	for range seconds {
		k.renew(names...)
		k.clock.SetTime(k.clock.Now().Add(time.Second))
	}
}

// all storenodes but those given.
func (k *rack) all(but ...string) []string {
	return slices.DeleteFunc(slices.Clone(k.names), func(n string) bool { return slices.Contains(but, n) })
}

// look at a StoreNode, and return its condition NodeAlive.
func (k *rack) look(name string) metav1.Condition {
	k.t.Helper()
	_, err := k.r.Reconcile(k.t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
	if err != nil {
		k.t.Fatal(err)
	}
	var node v1alpha1.StoreNode
	if err := k.api.Get(k.t.Context(), client.ObjectKey{Name: name}, &node); err != nil {
		k.t.Fatal(err)
	}
	if c := meta.FindStatusCondition(node.Status.Conditions, v1alpha1.ConditionNodeAlive); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// ready is n1's condition Ready.
func (k *rack) ready() metav1.Condition {
	k.t.Helper()
	var node v1alpha1.StoreNode
	if err := k.api.Get(k.t.Context(), client.ObjectKey{Name: "n1"}, &node); err != nil {
		k.t.Fatal(err)
	}
	return *meta.FindStatusCondition(node.Status.Conditions, v1alpha1.ConditionReady)
}

// tainted reports whether n1 is.
func (k *rack) tainted() bool {
	k.t.Helper()
	var node corev1.Node
	if err := k.api.Get(k.t.Context(), client.ObjectKey{Name: "n1"}, &node); err != nil {
		k.t.Fatal(err)
	}
	return evacuation.IsEvacuated(&node)
}

// want is the reason why n1 is NodeAlive at the next look.
func (k *rack) want(reason string) {
	k.t.Helper()
	if c := k.look("n1"); c.Reason != reason {
		k.t.Fatalf("got %s (%s), want %s", c.Reason, c.Message, reason)
	}
}

func TestWhoLivesIsLookedAtWithoutAllTheOthers(t *testing.T) {
	lists := 0
	k := newRack(t, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, o ...client.ListOption) error {
			if _, ok := l.(*v1alpha1.StoreNodeList); ok {
				lists++
			}
			return c.List(ctx, l, o...)
		},
	}, "n1", "n2", "n3")
	k.pass(2, k.all()...)
	k.want(v1alpha1.ReasonStorenodeAlive)
	if lists != 0 {
		t.Errorf("all StoreNodes were listed %d times", lists)
	}
	k.pass(6, k.all("n1")...)
	k.want(v1alpha1.ReasonHostAnswers)
	if lists == 0 {
		t.Error("a silent one was judged without the others")
	}
}

func TestNodeThatIsHeardWhileItsHostIsAskedIsNotDead(t *testing.T) {
	for story, heard := range map[string]string{"the storenode": "n1", "the kubelet": liveness.Kubelet("n1")} {
		t.Run(story, func(t *testing.T) {
			k := newRack(t, interceptor.Funcs{}, "n1", "n2", "n3")
			others := append(k.all("n1"), liveness.Kubelet("n2"))
			k.pass(2, append(k.all(), liveness.Kubelet("n1"))...)
			k.pass(6, others...)
			k.hosts["n1"] = silent
			k.want(v1alpha1.ReasonSuspected)
			k.hosts["n1"] = func() bool {
				k.renew(heard)
				return false
			}
			if c := k.look("n1"); c.Status != metav1.ConditionTrue || k.tainted() {
				t.Errorf("got %+v, tainted %v", c, k.tainted())
			}
			k.hosts["n1"] = silent
			k.pass(6, others...)
			if heard == "n1" { // the rounds before say nothing of this silence
				k.want(v1alpha1.ReasonSuspected)
			}
			k.pass(8, others...)
			k.want(v1alpha1.ReasonNodeDead)
			if !k.tainted() {
				t.Error("a dead node was not evacuated")
			}
		})
	}
}

// People who give Replicas up rely on it.
func TestSignsOfLifeAreToldThoughNothingWouldBeDone(t *testing.T) {
	maintain := func(k *rack) {
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"maintenance":"new fan"}}`))
		err := k.api.Patch(k.t.Context(), &v1alpha1.StoreNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, patch)
		if err != nil {
			k.t.Fatal(err)
		}
	}
	for story, c := range map[string]struct {
		prepare func(*rack)
		alive   []string
		silent  string
	}{
		"most storenodes are silent": {func(*rack) {}, []string{"n3"}, v1alpha1.ReasonTooManySilent},
		"somebody works on it":       {maintain, []string{"n2", "n3"}, v1alpha1.ReasonInMaintenance},
		"dead nodes are told of only": {
			func(k *rack) { k.r.Nodes.Evacuator = nil }, []string{"n2", "n3"}, v1alpha1.ReasonNodeDead,
		},
	} {
		t.Run(story, func(t *testing.T) {
			k := newRack(t, interceptor.Funcs{}, "n1", "n2", "n3")
			c.prepare(k)
			k.pass(2, append(k.all(), liveness.Kubelet("n1"))...)
			k.pass(6, c.alive...)
			k.want(v1alpha1.ReasonHostAnswers)
			k.hosts["n1"] = silent
			k.want(v1alpha1.ReasonSuspected)
			k.want(c.silent)
			if k.tainted() {
				t.Error("it was evacuated")
			}
			k.renew(liveness.Kubelet("n1"))
			k.want(v1alpha1.ReasonKubeletAlive)
		})
	}
}

// Its storenode ran under another namespace, or somebody removed the Lease. People may have to give up what it had.
func TestNodeWhoseStorenodeWasNeverHeardOfIsAskedAndNotEvacuated(t *testing.T) {
	k := newRack(t, interceptor.Funcs{}, "n1", "n2", "n3")
	k.want("") // a new operator does not know yet
	k.pass(6, k.all("n1")...)
	k.want(v1alpha1.ReasonHostAnswers)
	k.hosts["n1"] = silent
	k.want(v1alpha1.ReasonSuspected)
	k.want(v1alpha1.ReasonNoLease)
	if k.tainted() {
		t.Error("it was evacuated")
	}
	k.renew("n1")
	k.pass(2, k.all()...)
	k.want(v1alpha1.ReasonStorenodeAlive)
}

// Since when a node is dead, and that it is, is not to be forgotten with the process that found it.
func TestNewOperatorLeavesWhatIsSaidUntilItKnows(t *testing.T) {
	for story, c := range map[string]struct {
		renews []string
		want   string
	}{
		"it is dead yet": {[]string{"n2", "n3"}, v1alpha1.ReasonNodeDead},
		"it is back":     {[]string{"n1", "n2", "n3"}, v1alpha1.ReasonStorenodeAlive},
	} {
		t.Run(story, func(t *testing.T) {
			k := newRack(t, interceptor.Funcs{}, "n1", "n2", "n3")
			k.hosts["n1"] = silent
			k.pass(2, append(k.all(), liveness.Kubelet("n1"))...)
			k.pass(6, k.all("n1")...)
			k.want(v1alpha1.ReasonSuspected)
			k.want(v1alpha1.ReasonNodeDead)
			k.r.Alive = liveness.New(k.clock)
			k.r.Nodes.Alive = k.r.Alive
			k.pass(1, append(k.all(), liveness.Kubelet("n1"))...)
			k.want(v1alpha1.ReasonNodeDead)
			if c := k.ready(); c.Reason != v1alpha1.ReasonLeaseExpired {
				t.Errorf("got %+v", c)
			}
			k.pass(4, c.renews...)
			k.look("n1")
			k.want(c.want)
		})
	}
}

func TestHostOfTheOperatorIsNoWitness(t *testing.T) {
	k := newRack(t, interceptor.Funcs{}, "n1", "n2")
	k.r.Nodes.Node = "n2"
	k.hosts["n1"] = silent
	k.pass(2, append(k.all(), liveness.Kubelet("n1"))...)
	k.pass(6, "n2")
	for range 3 {
		k.want(v1alpha1.ReasonSuspected)
	}
	if slices.Contains(k.asked, "n2") {
		t.Error("it asked itself")
	}
	k.pass(8, "n2")
	k.want(v1alpha1.ReasonSuspected) // no other kubelet was heard: it may be the operator that hears none
	k.pass(14, "n2", liveness.Kubelet("n2"))
	k.want(v1alpha1.ReasonNodeDead)
}

func TestEvacuationThatFailsIsTriedAgainSoon(t *testing.T) {
	refuse := true
	k := newRack(t, interceptor.Funcs{Patch: func(ctx context.Context, api client.WithWatch, o client.Object,
		patch client.Patch, options ...client.PatchOption,
	) error {
		if _, isNode := o.(*corev1.Node); isNode && refuse {
			return errors.New("a webhook does not answer")
		}
		return api.Patch(ctx, o, patch, options...)
	}}, "n1", "n2", "n3")
	k.hosts["n1"] = silent
	k.pass(2, append(k.all(), liveness.Kubelet("n1"))...)
	k.pass(6, k.all("n1")...)
	k.want(v1alpha1.ReasonSuspected)
	n1 := reconcile.Request{NamespacedName: client.ObjectKey{Name: "n1"}}
	for range 20 {
		if result, err := k.r.Reconcile(t.Context(), n1); err != nil || result.RequeueAfter > 3*time.Second {
			t.Fatalf("tried again after %s, %v", result.RequeueAfter, err)
		}
	}
	refuse = false
	k.want(v1alpha1.ReasonNodeDead)
	if !k.tainted() {
		t.Error("it was not evacuated in the end")
	}
}
