package driver

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/loop"
	"github.com/shale-storage/shale/csi/attach/memory"
	"github.com/shale-storage/shale/csi/initiator"
	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/csi/keylock"
	"github.com/shale-storage/shale/csi/mounter"
	"github.com/shale-storage/shale/csi/volumes"
)

// memories are Volumes that outlive their attachments, as those of storenodes do.
type memories struct {
	mu  sync.Mutex
	all map[string]*memory.Backend
}

func (m *memories) open(_ context.Context, r api.AttachRequest) (initiator.Volume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all[r.ID] == nil {
		backend, err := memory.New(r.SizeBytes)
		if err != nil {
			return nil, err
		}
		m.all[r.ID] = backend
	}
	return kept{Backend: m.all[r.ID]}, nil
}

func (m *memories) close() {
	for _, backend := range m.all {
		_ = backend.Close()
	}
}

// newInitiator runs a real initiator with real devices over Volumes in memory.
func newInitiator(t *testing.T) *api.Client {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("devices and mounts need root")
	}
	log := slog.New(slog.DiscardHandler)
	frontend, err := loop.New(loop.Options{StateDir: filepath.Join(t.TempDir(), "state"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := frontend.Probe(); err != nil {
		t.Skipf("no loop frontend on this machine: %v", err)
	}
	content := &memories{all: map[string]*memory.Backend{}}
	socket := filepath.Join(t.TempDir(), "initiator.sock")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- initiator.Run(ctx, initiator.Options{
			Socket: socket, Node: "n1", Frontends: []attach.Frontend{frontend}, MaxVolumes: 16, Log: log, Open: content.open,
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("initiator: %v", err)
		}
		content.close()
	})
	client := api.NewClient(socket)
	for _, err := client.Health(t.Context()); err != nil; _, err = client.Health(t.Context()) {
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	return client
}

// TestSanity is the conformance suite of the CSI community over the whole driver: a real node service, initiator,
// devices and mounts; the Kubernetes API is the client library's fake, with the operator played by a goroutine.
func TestSanity(t *testing.T) {
	devices := newInitiator(t)
	cluster := newCluster(t)
	cluster.add(t, &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "fast"}})
	cluster.add(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	cluster.add(t, storeNode("n1", "127.0.0.1:7800"))
	cluster.startOperator(t)

	dir := t.TempDir()
	socket := filepath.Join(dir, "csi.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	plugin := grpc.NewServer()
	csi.RegisterIdentityServer(plugin, NewIdentity("test", func(context.Context) error { return nil }))
	csi.RegisterControllerServer(plugin, NewController(volumes.New(cluster.api), &keylock.Locks{}))
	csi.RegisterNodeServer(plugin, NewNode(NodeOptions{
		Node: "n1", MaxVolumes: 16, Topology: Topology(), Initiator: devices, Mounter: mounter.New(), Locks: &keylock.Locks{},
	}))
	served := make(chan error, 1)
	go func() { served <- plugin.Serve(listener) }()
	t.Cleanup(func() {
		plugin.GracefulStop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})

	config := sanity.NewTestConfig()
	config.Address = "unix://" + socket
	config.TargetPath, config.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	config.TestVolumeSize = 64 << 20
	config.TestVolumeParameters = map[string]string{"pool": "fast", "replicas": "3", "shardSize": "64Mi"}
	config.IdempotentCount = 2
	config.CheckPathCmdTimeout = time.Minute
	sanity.Test(t, config)
}
