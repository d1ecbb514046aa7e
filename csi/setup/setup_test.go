package setup

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registerv1 "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/shale-storage/shale/csi/driver"
	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/storenode/client"
)

func newProcess() *process {
	return &process{log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry()}
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(unixScheme+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// startNode runs the node command with a registration directory and returns both sockets and how it ended.
func startNode(t *testing.T) (plugin, kubelet string, ended <-chan error) {
	t.Helper()
	dir := t.TempDir()
	f := nodeFlags{
		endpoint: unixScheme + filepath.Join(dir, "csi.sock"), node: "n1", socket: filepath.Join(dir, "initiator.sock"),
		kubeletPath: "/var/lib/kubelet/plugins/csi.sock", registrationDir: filepath.Join(dir, "registration"),
	}
	done := make(chan error, 1)
	go func() { done <- newProcess().runNode(t.Context(), f, "v1") }()
	return filepath.Join(dir, "csi.sock"), filepath.Join(f.registrationDir, registrationSocket), done
}

func TestTheKubeletFindsThePlugin(t *testing.T) {
	plugin, kubelet, _ := startNode(t)
	info, err := registerv1.NewRegistrationClient(dial(t, kubelet)).GetInfo(
		t.Context(), &registerv1.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil || info.GetType() != registerv1.CSIPlugin || info.GetName() != driver.Name ||
		info.GetEndpoint() != "/var/lib/kubelet/plugins/csi.sock" {
		t.Errorf("got %v, %v", info, err)
	}
	node, err := csi.NewNodeClient(dial(t, plugin)).NodeGetInfo(
		t.Context(), &csi.NodeGetInfoRequest{}, grpc.WaitForReady(true))
	if err != nil || node.GetNodeId() != "n1" {
		t.Errorf("got %v, %v", node, err)
	}
	_, err = csi.NewIdentityClient(dial(t, plugin)).Probe(t.Context(), &csi.ProbeRequest{})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("without an initiator the plugin calls itself ready: %v", err)
	}
}

func TestARefusedPluginEndsWithTheReason(t *testing.T) {
	_, kubelet, ended := startNode(t)
	_, err := registerv1.NewRegistrationClient(dial(t, kubelet)).NotifyRegistrationStatus(
		t.Context(), &registerv1.RegistrationStatus{Error: "wrong version"}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "wrong version") {
		t.Errorf("ended with %v", err)
	}
}

// stubborn is an Identity service whose Probe heeds no cancellation, as a call within mkfs does not.
type stubborn struct {
	csi.UnimplementedIdentityServer
	entered, cancelled, proceed chan struct{}
}

func (s stubborn) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	close(s.entered)
	<-ctx.Done()
	close(s.cancelled)
	<-s.proceed
	return &csi.ProbeResponse{}, nil
}

func TestTheEndWaitsForACallThatCannotBeCancelled(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "csi.sock")
	listener, err := listen(t.Context(), unixScheme+socket)
	if err != nil {
		t.Fatal(err)
	}
	plugin := newPlugin(slog.New(slog.DiscardHandler), newCallSeconds(prometheus.NewRegistry()))
	s := stubborn{entered: make(chan struct{}), cancelled: make(chan struct{}), proceed: make(chan struct{})}
	csi.RegisterIdentityServer(plugin, s)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- servePatiently(ctx, plugin, listener, time.Millisecond) }()
	go func() {
		_, _ = csi.NewIdentityClient(dial(t, socket)).Probe(t.Context(), &csi.ProbeRequest{}, grpc.WaitForReady(true))
	}()
	<-s.entered
	stop()
	<-s.cancelled
	select {
	case err := <-ended:
		t.Errorf("ended in the middle of the call: %v", err)
	case <-time.After(100 * time.Millisecond):
		close(s.proceed)
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

func TestEndpointsThatAreNoSocketAreRefused(t *testing.T) {
	for _, endpoint := range []string{"", "/csi.sock", "tcp://127.0.0.1:1", "unix://csi.sock"} {
		if l, err := listen(t.Context(), endpoint); err == nil {
			_ = l.Close()
			t.Errorf("%q: listens", endpoint)
		}
	}
}

func TestAPanicAnswersInternalAndIsCounted(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	metrics := prometheus.NewRegistry()
	info := &grpc.UnaryServerInfo{FullMethod: "/csi.v1.Node/NodeStageVolume"}
	_, err := observe(log, newCallSeconds(metrics))(t.Context(), &csi.NodeStageVolumeRequest{}, info,
		func(ctx context.Context, in any) (any, error) {
			return recoverCall(log)(ctx, in, info, func(context.Context, any) (any, error) { panic("bug") })
		})
	if status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	families, err := metrics.Gather()
	if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetHistogram().GetSampleCount() != 1 {
		t.Errorf("counted %v, %v", families, err)
	}
}

func TestTheInitiatorExportsTheVolumeClientsMetrics(t *testing.T) {
	metrics := prometheus.NewPedanticRegistry()
	registerVolumes(metrics, &client.Metrics{})
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	documented, err := os.ReadFile("../../docs/operate/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(string(documented), "`"+f.GetName()+"`") {
			t.Errorf("%s is not documented", f.GetName())
		}
	}
	if len(families) < 9 {
		t.Errorf("%d metrics", len(families))
	}
}

// People end an initiator whose devices are all held, by these two numbers.
func TestTheInitiatorsDevicesAreCountedByOneAnswer(t *testing.T) {
	metrics, asked := prometheus.NewPedanticRegistry(), 0
	registerDevices(metrics, func() api.Health {
		asked++
		return api.Health{Attached: 4 - asked, Held: 1 + asked} // equal if it is asked for each of them
	})
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if attached, held := got["shale_initiator_attached_volumes"], got["shale_initiator_held_volumes"]; attached != 3 ||
		held != 2 {
		t.Errorf("%v, want 3 attached and 2 held", got)
	}
}
