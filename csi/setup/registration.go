package setup

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	registerv1 "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/shale-storage/shale/csi/driver"
)

// registration tells the kubelet of the plugin, as the node-driver-registrar sidecar would: the kubelet watches the
// directory of sockets, asks who is there, looks at the plugin itself, and says whether it takes it.
type registration struct {
	registerv1.UnimplementedRegistrationServer
	// endpoint of the CSI socket as the kubelet sees it.
	endpoint string
	log      *slog.Logger
	// refused gets the kubelet's reason; it has room for one.
	refused chan string
}

// newRegistration makes the gRPC server for the kubelet; refused tells that it did not take the plugin.
func newRegistration(endpoint string, log *slog.Logger) (g *grpc.Server, refused <-chan string) {
	r := &registration{endpoint: endpoint, log: log, refused: make(chan string, 1)}
	g = grpc.NewServer(grpc.MaxConcurrentStreams(maxCalls), grpc.MaxRecvMsgSize(maxMessage))
	registerv1.RegisterRegistrationServer(g, r)
	return g, r.refused
}

// GetInfo says who is there.
func (r *registration) GetInfo(context.Context, *registerv1.InfoRequest) (*registerv1.PluginInfo, error) {
	return &registerv1.PluginInfo{
		Type: registerv1.CSIPlugin, Name: driver.Name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus is the kubelet's verdict. A plugin that was refused ends, so that its pod shows it and the
// next start tries again.
func (r *registration) NotifyRegistrationStatus(
	_ context.Context, s *registerv1.RegistrationStatus,
) (*registerv1.RegistrationStatusResponse, error) {
	if s.GetPluginRegistered() {
		r.log.Info("The kubelet has registered the plugin")
		return &registerv1.RegistrationStatusResponse{}, nil
	}
	select {
	case r.refused <- s.GetError():
	default:
	}
	return &registerv1.RegistrationStatusResponse{}, nil
}
