package setup

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/test/apiserver"
)

const (
	gib       = int64(1) << 30
	namespace = "shale-system"
	// patience bounds how long a test waits for what must come.
	patience = 60 * time.Second
	// look is how often it looks.
	look = 20 * time.Millisecond
)

var cluster *rest.Config

func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.FromSlogHandler(slog.DiscardHandler))
	if testing.Short() {
		os.Exit(m.Run())
	}
	if !apiserver.Available() {
		fmt.Println("operator/setup: skipped:", apiserver.Missing)
		os.Exit(m.Run())
	}
	server, err := apiserver.Start()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	cluster = server.Config
	cluster.QPS, cluster.Burst = 500, 1000
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Println(err)
	}
	os.Exit(code)
}

// world is an operator, and storenodes that do what agents do. Devices are named dev-…-NODE.
type world struct {
	t        *testing.T
	api      client.Client
	clock    *clocktesting.FakePassiveClock
	base     time.Time
	registry *prometheus.Registry

	mu sync.Mutex
	// refuses names nodes whose storenode refuses Replicas, down those that do nothing.
	refuses, down map[string]bool
	// silent names nodes whose host does not answer.
	silent   map[string]bool
	renewals int
}

func device(node string) string {
	return fmt.Sprintf("dev-00000000-0000-0000-0000-%012s", node[1:])
}

// newAPI is the API server with Shale's namespace.
func newAPI(t *testing.T) client.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short: not measured under the race detector yet; make unit runs it")
	}
	if cluster == nil {
		t.Skip("KUBEBUILDER_ASSETS is not set")
	}
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.New(cluster, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := api.Create(t.Context(), ns); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return api
}

func newWorld(t *testing.T, wrap func(client.Client) client.Client, nodes ...string) *world {
	t.Helper()
	api := newAPI(t)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &world{
		t: t, api: api, clock: clocktesting.NewFakePassiveClock(start), base: start,
		refuses: map[string]bool{}, down: map[string]bool{}, silent: map[string]bool{},
		registry: prometheus.NewRegistry(),
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.must(api.Create(ctx, &v1alpha1.Pool{
		ObjectMeta: metav1.ObjectMeta{Name: "fast"},
		Spec:       v1alpha1.PoolSpec{DeviceSelector: v1alpha1.DeviceSelector{Paths: []string{"/dev/x"}}},
	}))
	for _, n := range nodes {
		w.addNode(n)
	}
	m, err := Manager(ctx, cluster, Options{
		Namespace: namespace, ReplaceAfter: 10 * time.Minute, Clock: w.clock, Registry: w.registry,
		Log: slog.New(slog.DiscardHandler), Wrap: wrap, SkipNameValidation: true, Evacuate: true, Hosts: w,
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Start(ctx); err != nil {
			t.Errorf("run operator: %v", err)
		}
	})
	running.Go(func() { w.agents(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		w.wipe()
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) addNode(name string) {
	w.t.Helper()
	ctx := w.t.Context()
	w.must(w.api.Create(ctx, &v1alpha1.StoreNode{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.StoreNodeSpec{Addresses: map[string]string{"tcp": name + ":7800"}},
	}))
	w.addDevice(device(name), name)
	w.must(w.api.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: leasePrefix + name},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(name), LeaseDurationSeconds: ptr.To(int32(4)),
			RenewTime: &metav1.MicroTime{Time: w.base},
		},
	}))
}

// addDevice puts an empty Device into a node.
func (w *world) addDevice(name, node string) {
	w.t.Helper()
	ctx := w.t.Context()
	d := &v1alpha1.Device{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.DeviceSpec{
			UUID: strings.TrimPrefix(name, "dev-"), PoolName: "fast", NodeName: node, Path: "/dev/x",
		},
	}
	w.must(w.api.Create(ctx, d))
	d.Status.CapacityBytes = 10 * gib
	d.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonServing,
		LastTransitionTime: metav1.Now(),
	}}
	w.must(w.api.Status().Update(ctx, d))
}

// Answer makes the world its own hosts: each has the address NODE:7800.
func (w *world) Answer(_ context.Context, addresses []string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range addresses {
		if node, _, ok := strings.Cut(a, ":"); ok && !w.silent[node] {
			return true
		}
	}
	return false
}

// agents reserve and report like storenodes, until ctx ends.
func (w *world) agents(ctx context.Context) {
	for ctx.Err() == nil {
		var list v1alpha1.ShardList
		if w.api.List(ctx, &list) == nil {
			for i := range list.Items {
				w.report(ctx, &list.Items[i])
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
	}
}

func (w *world) report(ctx context.Context, s *v1alpha1.Shard) {
	base := s.DeepCopy()
	entries := map[int64]v1alpha1.ShardReplicaStatus{}
	var order []int64
	for _, r := range s.Status.Replicas {
		entries[r.ID] = r
		order = append(order, r.ID)
	}
	goes := s.DeletionTimestamp != nil
	var v v1alpha1.Volume
	if goes && w.api.Get(ctx, client.ObjectKey{Name: s.Spec.VolumeName}, &v) == nil {
		goes = !v.Keeps(s)
	}
	w.mu.Lock()
	for _, r := range s.Spec.Replicas {
		_, known := entries[r.ID]
		switch {
		case w.down[r.NodeName]:
		case goes && known:
			delete(entries, r.ID)
		case !goes && !known:
			entry := v1alpha1.ShardReplicaStatus{ID: r.ID, State: v1alpha1.ReplicaCreated, Incarnation: r.NodeName}
			if w.refuses[r.NodeName] {
				entry.State, entry.Message = v1alpha1.ReplicaFailed, "the device has no room for this replica"
			}
			entries[r.ID] = entry
			order = append(order, r.ID)
		}
	}
	w.mu.Unlock()
	s.Status.Replicas = nil
	for _, id := range order {
		if e, ok := entries[id]; ok {
			s.Status.Replicas = append(s.Status.Replicas, e)
		}
	}
	_ = w.api.Status().Patch(ctx, s, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
}

// renew renews the Leases of the nodes given, and waits until the operator has seen it.
func (w *world) renew(nodes ...string) {
	w.t.Helper()
	w.renewals++
	for _, n := range nodes {
		var lease coordinationv1.Lease
		w.must(w.api.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: leasePrefix + n}, &lease))
		lease.Spec.RenewTime = &metav1.MicroTime{Time: w.base.Add(time.Duration(w.renewals) * time.Second)}
		w.must(w.api.Update(w.t.Context(), &lease))
	}
}

// pass lets d go by for the operator, in steps during which the nodes given renew their Leases. Then it is made to look
// at those that did not: its timers are real, and would have it wait for what the test's clock has passed already.
func (w *world) pass(d time.Duration, alive ...string) {
	w.t.Helper()
	for range int(d / time.Second) {
		w.renew(alive...)
		time.Sleep(3 * look) // the watch has no other mark of having been seen
		w.clock.SetTime(w.clock.Now().Add(time.Second))
	}
	var list v1alpha1.StoreNodeList
	w.must(w.api.List(w.t.Context(), &list))
	for i := range list.Items {
		if o := &list.Items[i]; !slices.Contains(alive, o.Name) {
			w.must(w.api.Patch(w.t.Context(), o, client.RawPatch("application/merge-patch+json",
				fmt.Appendf(nil, `{"metadata":{"labels":{"passed":"%d"}}}`, w.renewals))))
		}
	}
}

func (w *world) volume(name string, size int64, replicas int32) *v1alpha1.Volume {
	w.t.Helper()
	v := &v1alpha1.Volume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.VolumeSpec{
			ID: "11111111-1111-1111-1111-111111111111", SizeBytes: size, PoolName: "fast", Replicas: replicas,
			ShardSizeBytes: gib,
		},
	}
	w.must(w.api.Create(w.t.Context(), v))
	return v
}

// until waits for what must come, and says what was there if it does not.
func (w *world) until(what string, done func() (bool, string)) {
	w.t.Helper()
	var last string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(look) {
		var ok bool
		if ok, last = done(); ok {
			return
		}
	}
	w.t.Fatalf("waited for %s; there is: %s", what, last)
}

func (w *world) condition(name, reason string, status metav1.ConditionStatus) string {
	w.t.Helper()
	var message string
	w.until(fmt.Sprintf("volume %s to be %s %s", name, reason, status), func() (bool, string) {
		var v v1alpha1.Volume
		if err := w.api.Get(w.t.Context(), client.ObjectKey{Name: name}, &v); err != nil {
			return false, err.Error()
		}
		c := meta.FindStatusCondition(v.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil {
			return false, "no condition"
		}
		message = c.Message
		return c.Reason == reason && c.Status == status, fmt.Sprintf("%s %s: %s", c.Reason, c.Status, c.Message)
	})
	return message
}

// gauge is what the operator's metric of that name says.
func (w *world) gauge(name string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	w.must(err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	w.t.Fatalf("there is no metric %s", name)
	return 0
}

func (w *world) shard(what, name string, is func(*v1alpha1.Shard) bool) *v1alpha1.Shard {
	w.t.Helper()
	var s v1alpha1.Shard
	w.until(what, func() (bool, string) {
		s = v1alpha1.Shard{}
		if err := w.api.Get(w.t.Context(), client.ObjectKey{Name: name}, &s); err != nil {
			return false, err.Error()
		}
		return is(&s), fmt.Sprintf("%+v %+v", s.Spec, s.Status)
	})
	return &s
}

// gone waits for the end of the Volume v.
func (w *world) gone() {
	w.t.Helper()
	w.until("volume v to be gone", func() (bool, string) {
		var v v1alpha1.Volume
		err := w.api.Get(w.t.Context(), client.ObjectKey{Name: "v"}, &v)
		return apierrors.IsNotFound(err), fmt.Sprintf("%v %+v", err, v.Status)
	})
	var list v1alpha1.ShardList
	w.must(w.api.List(w.t.Context(), &list))
	if len(list.Items) != 0 {
		w.t.Errorf("%d shards outlive their volume", len(list.Items))
	}
}

// wipe leaves nothing for the next test; nobody runs any more, though what was written last may still arrive.
func (w *world) wipe() {
	ctx := context.Background()
	_ = w.api.DeleteAllOf(ctx, &coordinationv1.Lease{}, client.InNamespace(namespace))
	for _, o := range []client.Object{
		&v1alpha1.Volume{}, &v1alpha1.Shard{}, &v1alpha1.Device{}, &v1alpha1.StoreNode{}, &v1alpha1.Pool{},
	} {
		_ = w.api.DeleteAllOf(ctx, o)
	}
	release := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
	w.until("nothing to be left", func() (bool, string) {
		var shards v1alpha1.ShardList
		var volumes v1alpha1.VolumeList
		if err := errors.Join(w.api.List(ctx, &shards), w.api.List(ctx, &volumes)); err != nil {
			return false, err.Error()
		}
		for i := range shards.Items {
			_ = w.api.Patch(ctx, &shards.Items[i], release)
		}
		for i := range volumes.Items {
			_ = w.api.Patch(ctx, &volumes.Items[i], release)
		}
		left := len(shards.Items) + len(volumes.Items)
		return left == 0, fmt.Sprint(left, " shards and volumes")
	})
}
