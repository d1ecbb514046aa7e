package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/client"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/test/apiserver"
)

const (
	namespace = "shale-system"
	volumeID  = "0102030f-0000-4000-8000-000000000001"
	// patience bounds what a test waits for.
	patience = 60 * time.Second
)

// api is an API server of our own, with our types; KUBECONFIG leads there.
func api(t *testing.T) kube.Client {
	t.Helper()
	server := apiserver.For(t)
	t.Setenv("KUBECONFIG", server.Kubeconfig(t))
	if err := v1alpha1.AddToScheme(scheme.Scheme); err != nil {
		t.Fatal(err)
	}
	c, err := kube.New(server.Config, kube.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func create(t *testing.T, c kube.Client, objects ...kube.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// replicaState is nil if the Shard's only Replica is shown in that state.
func replicaState(ctx context.Context, c kube.Client, want string) error {
	var s v1alpha1.Shard
	if err := c.Get(ctx, kube.ObjectKey{Name: "v-0"}, &s); err != nil {
		return err
	}
	if len(s.Status.Replicas) != 1 || s.Status.Replicas[0].State != want {
		return fmt.Errorf("shard shows %+v, want %s", s.Status.Replicas, want)
	}
	return nil
}

// TestRunServesWhatTheClusterAsksFor plays the operator for one Shard with one Replica.
func TestRunServesWhatTheClusterAsksFor(t *testing.T) {
	c := api(t)
	path := file(t, "")
	f := &flags{
		node: "n1", namespace: namespace, address: "127.0.0.1", port: freePort(t), memory: 32,
		metrics: net.JoinHostPort("127.0.0.1", strconv.Itoa(int(freePort(t)))), stateDir: filepath.Dir(path),
		bootID: process.BootIDFile,
	}
	create(t, c,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}},
		&v1alpha1.Pool{
			ObjectMeta: metav1.ObjectMeta{Name: "fast"},
			Spec:       v1alpha1.PoolSpec{DeviceSelector: v1alpha1.DeviceSelector{Paths: []string{path}}},
		},
	)
	stop := begin(t, f)
	device := readyDevice(t, c)
	shard := &v1alpha1.Shard{
		ObjectMeta: metav1.ObjectMeta{Name: "v-0"},
		Spec: v1alpha1.ShardSpec{
			VolumeName: "v", VolumeID: volumeID, SizeBytes: 16 << 20, NextReplicaID: 2,
			Replicas: []v1alpha1.ShardReplica{{ID: 1, DeviceName: device, NodeName: "n1"}},
		},
	}
	create(t, c, &v1alpha1.Volume{
		ObjectMeta: metav1.ObjectMeta{Name: "v"},
		Spec: v1alpha1.VolumeSpec{
			ID: volumeID, SizeBytes: 16 << 20, PoolName: "fast", Replicas: 1, ShardSizeBytes: 1 << 30, AttachGeneration: 1,
		},
	}, shard)
	eventually(t, "the replica is created", func() error { return replicaState(t.Context(), c, v1alpha1.ReplicaCreated) })
	eventually(t, "the shard gets its first epoch", func() error {
		if err := c.Get(t.Context(), kube.ObjectKeyFromObject(shard), shard); err != nil {
			return err
		}
		shard.Spec.Membership = v1alpha1.ShardMembership{Epoch: 1, Primary: 1, InSync: []int64{1}}
		return c.Update(t.Context(), shard)
	})
	eventually(t, "the replica is in sync", func() error { return replicaState(t.Context(), c, v1alpha1.ReplicaInSync) })
	writeAndRead(t, net.JoinHostPort(f.address, strconv.Itoa(int(f.port))))
	scrape(t, f.metrics)
	withoutObject(t, c)
	if err := c.Delete(t.Context(), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: device}}); err != nil {
		t.Fatal(err)
	}
	readyDevice(t, c)
	path = pulled(t, c, path)
	stop()
	withoutDevice(t, c, f, path)
	stop = begin(t, f)
	readyDevice(t, c)
	deleteShard(t, c, shard)
	stop()
}

// begin runs a storenode; stop ends it in order.
func begin(t *testing.T, f *flags) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, f, "test", slog.New(slog.NewTextHandler(testWriter{t}, nil))) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run ended with %v", err)
		}
	}
}

// withoutObject has a person delete the StoreNode of a storenode that lives.
func withoutObject(t *testing.T, c kube.Client) {
	t.Helper()
	old := &v1alpha1.StoreNode{}
	key := kube.ObjectKey{Name: "n1"}
	if err := errors.Join(c.Get(t.Context(), key, old), c.Delete(t.Context(), old.DeepCopy())); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the storenode registers anew", func() error {
		var now v1alpha1.StoreNode
		if err := c.Get(t.Context(), key, &now); err != nil {
			return err
		}
		if now.UID == old.UID || now.Spec.Addresses["tcp"] != old.Spec.Addresses["tcp"] {
			return fmt.Errorf("storenode is %+v", now)
		}
		return nil
	})
}

// pulled moves the Device to another slot while it is in service.
func pulled(t *testing.T, c kube.Client, path string) (slot string) {
	t.Helper()
	slot = path + ".other"
	if err := os.Rename(path, slot); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pool selects the other slot too", func() error { // which has it look at once
		var pool v1alpha1.Pool
		if err := c.Get(t.Context(), kube.ObjectKey{Name: "fast"}, &pool); err != nil {
			return err
		}
		pool.Spec.DeviceSelector.Paths = []string{path, slot}
		return c.Update(t.Context(), &pool)
	})
	eventually(t, "the device is served there", func() error {
		var list v1alpha1.DeviceList
		if err := c.List(t.Context(), &list); err != nil {
			return err
		}
		for i := range list.Items {
			d := &list.Items[i]
			if d.Spec.Path == slot && meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady) {
				return nil
			}
		}
		return fmt.Errorf("devices are %+v", list.Items)
	})
	eventually(t, "the replica is in sync", func() error { return replicaState(t.Context(), c, v1alpha1.ReplicaInSync) })
	return slot
}

// withoutDevice is the life of a storenode whose Device did not come back with it.
func withoutDevice(t *testing.T, c kube.Client, f *flags, path string) {
	t.Helper()
	if err := os.Rename(path, path+".gone"); err != nil {
		t.Fatal(err)
	}
	defer begin(t, f)()
	eventually(t, "the device is missing", func() error {
		var list v1alpha1.DeviceList
		if err := c.List(t.Context(), &list); err != nil {
			return err
		}
		for i := range list.Items {
			ready := meta.FindStatusCondition(list.Items[i].Status.Conditions, v1alpha1.ConditionReady)
			if ready.Reason == v1alpha1.ReasonMissing && strings.Contains(ready.Message, path) {
				return nil
			}
		}
		return fmt.Errorf("devices are %+v", list.Items)
	})
	if err := os.Rename(path+".gone", path); err != nil {
		t.Fatal(err)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

func readyDevice(t *testing.T, c kube.Client) (name string) {
	t.Helper()
	eventually(t, "the device is in service", func() error {
		var list v1alpha1.DeviceList
		if err := c.List(t.Context(), &list); err != nil {
			return err
		}
		for i := range list.Items {
			d := &list.Items[i]
			if meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady) && d.Status.CapacityBytes > 0 {
				name = d.Name
				return nil
			}
		}
		return fmt.Errorf("%d devices, none ready", len(list.Items))
	})
	return name
}

type done chan error

func (d done) RequestDone(r *client.Request) { d <- r.Err }

// writeAndRead uses the Volume as an initiator does.
func writeAndRead(t *testing.T, address string) {
	t.Helper()
	p, err := client.NewProcess(client.ProcessOptions{
		Node: "test", Memory: client.MinMemory, Log: slog.New(slog.DiscardHandler),
		AfterFunc: func(d time.Duration, f func()) client.Timer { return time.AfterFunc(d, f) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var v *client.Volume
	eventually(t, "the volume can be opened", func() (err error) {
		v, err = p.Open(t.Context(), volumeID, 1, []string{address})
		return err
	})
	defer v.Close()
	end := make(done, 1)
	b := v.Buffer(4096)
	copy(b.Bytes(), "hello")
	for _, op := range []client.Op{client.OpWrite, client.OpFlush, client.OpRead} {
		r := &client.Request{Op: op, Done: end}
		if op != client.OpFlush {
			r.Offset, r.Length, r.Buffer = 8192, 4096, b
		}
		v.Submit(r)
		v.Kick()
		if err := <-end; err != nil {
			t.Fatalf("operation %d: %v", op, err)
		}
		if op == client.OpRead {
			b = r.Buffer
		}
	}
	if string(b.Bytes()[:5]) != "hello" {
		t.Errorf("read %q", b.Bytes()[:5])
	}
	b.Release()
}

func scrape(t *testing.T, address string) {
	t.Helper()
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ok",
		"/metrics": `shale_storenode_data_bytes_total{direction="write"}`,
	} {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, %v, no %q", path, response.Status, err, want)
		}
	}
}

func deleteShard(t *testing.T, c kube.Client, shard *v1alpha1.Shard) {
	t.Helper()
	eventually(t, "the shard has a finalizer, as the operator's", func() error {
		if err := c.Get(t.Context(), kube.ObjectKeyFromObject(shard), shard); err != nil {
			return err
		}
		shard.Finalizers = []string{"shale.dev/test"}
		return c.Update(t.Context(), shard)
	})
	volume := &v1alpha1.Volume{ObjectMeta: metav1.ObjectMeta{Name: shard.Spec.VolumeName}} // a Shard goes with its Volume
	if err := errors.Join(c.Delete(t.Context(), volume), c.Delete(t.Context(), shard)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica is gone", func() error {
		if err := c.Get(t.Context(), kube.ObjectKeyFromObject(shard), shard); err != nil {
			return err
		}
		if len(shard.Status.Replicas) > 0 {
			return fmt.Errorf("shard shows %+v", shard.Status.Replicas)
		}
		return nil
	})
}
