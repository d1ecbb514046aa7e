package lab

import (
	"fmt"
	"path/filepath"

	"github.com/shale-storage/shale/hack/images"
)

// Addresses. Node i has nodeIP(i) and gives its pods addresses of podCIDR(i).
const (
	controlIP     = "10.10.0.1"
	serviceIP     = "10.96.0.1"
	serviceCIDR   = "10.96.0.0/16"
	apiServer     = "https://" + controlIP + ":443"
	bridgeName    = "lab0"
	prefixLength  = "/24"
	firstNodeHost = 10
)

func nodeIP(index int) string  { return fmt.Sprintf("10.10.0.%d", firstNodeHost+index) }
func podCIDR(index int) string { return fmt.Sprintf("10.244.%d.0/24", index) }

// containerdConfig is /etc/containerd/config.toml of a node. The host may forbid to lower OOM scores, hence
// restrict_oom_score_adj.
func containerdConfig(bin string) string {
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = %q
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = %q
      SystemdCgroup = false
[plugins.'io.containerd.nri.v1.nri']
  disable = true
`, images.PauseRef, filepath.Join(bin, "runc"))
}

// cniConfig gives the node's pods a bridge and addresses.
func cniConfig(cidr string) string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "lab", "plugins": [{
  "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
`, cidr)
}

// kubeletConfig is for cgroup version 1 hosts too, and with short times: a dead node is to be noticed soon.
// KubeletInUserNamespace makes the kubelet accept that the host forbids some settings. Tests end a process more often
// in an hour than life does in a year, so what was ended often does not wait for minutes before it is started again.
func kubeletConfig(pki, node, cgroupRoot string) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]s/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: %[1]s/%[2]s.crt
tlsPrivateKeyFile: %[1]s/%[2]s.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: %[3]s
failCgroupV1: false
failSwapOn: false
featureGates: {KubeletInUserNamespace: true, KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 5s}
makeIPTablesUtilChains: false
resolvConf: ""
clusterDomain: cluster.local
volumePluginDir: /var/lib/kubelet/volume-plugins
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi}
nodeLeaseDurationSeconds: 8
nodeStatusUpdateFrequency: 3s
volumeStatsAggPeriod: 10s
syncFrequency: 10s
`, pki, node, cgroupRoot)
}
