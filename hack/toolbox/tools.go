package toolbox

import (
	"fmt"
	"slices"
	"strings"
)

// kubernetesVersion is what the Kubernetes binaries report; it is the version pinned in hack/tools/go.mod, which a
// test compares.
const kubernetesVersion = "v1.37.2"

// tool is one pinned program.
type tool struct {
	// module is the directory below hack/tools with the go.mod that pins it; "." for hack/tools itself.
	module string
	// path of its main package.
	path string
	// cgo is true where C is called; debian are then the packages with compiler and headers.
	cgo    bool
	debian []string
	// tags are build tags.
	tags string
}

// cgoEnabled is the variable's value for Go.
func (t tool) cgoEnabled() string {
	if t.cgo {
		return "1"
	}
	return "0"
}

// tools are all programs by name.
var tools = map[string]tool{
	"etcd":                    {module: ".", path: "go.etcd.io/etcd/server/v3"},
	"kube-apiserver":          {module: ".", path: "k8s.io/kubernetes/cmd/kube-apiserver"},
	"kube-controller-manager": {module: ".", path: "k8s.io/kubernetes/cmd/kube-controller-manager"},
	"kube-scheduler":          {module: ".", path: "k8s.io/kubernetes/cmd/kube-scheduler"},
	"kubelet":                 {module: ".", path: "k8s.io/kubernetes/cmd/kubelet"},
	"kubectl":                 {module: ".", path: "k8s.io/kubernetes/cmd/kubectl"},
	"containerd":              {module: ".", path: "github.com/containerd/containerd/v2/cmd/containerd"},
	"containerd-shim-runc-v2": {module: ".", path: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"},
	"ctr":                     {module: ".", path: "github.com/containerd/containerd/v2/cmd/ctr"},
	"runc": {
		module: ".", path: "github.com/opencontainers/runc",
		cgo: true, debian: []string{"gcc", "libc6-dev", "pkg-config", "libseccomp-dev"}, tags: "seccomp",
	},
	"csi-provisioner": {module: ".", path: "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"},
	"csi-attacher":    {module: ".", path: "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"},
	"helm":            {module: ".", path: "helm.sh/helm/v4/cmd/helm"},
	"controller-gen":  {module: ".", path: "sigs.k8s.io/controller-tools/cmd/controller-gen"},
	"bridge":          {module: "cni", path: "github.com/containernetworking/plugins/plugins/main/bridge"},
	"loopback":        {module: "cni", path: "github.com/containernetworking/plugins/plugins/main/loopback"},
	"host-local":      {module: "cni", path: "github.com/containernetworking/plugins/plugins/ipam/host-local"},
	"golangci-lint":   {module: "lint", path: "github.com/golangci/golangci-lint/v2/cmd/golangci-lint"},
}

// groups name sets of tools that are wanted together.
var groups = map[string][]string{
	"envtest":  {"etcd", "kube-apiserver", "kubectl"},
	"cni":      {"bridge", "loopback", "host-local"},
	"sidecars": {"csi-provisioner", "csi-attacher"},
	"lint":     {"golangci-lint"},
	"lab": {
		"etcd", "kube-apiserver", "kubectl", "kubelet", "kube-controller-manager", "kube-scheduler",
		"containerd", "containerd-shim-runc-v2", "ctr", "runc",
	},
}

// Names are all that Build understands, for people: groups first.
func Names() []string {
	var names []string
	for name := range groups {
		names = append(names, name)
	}
	slices.Sort(names)
	known := len(names)
	for name := range tools {
		names = append(names, name)
	}
	slices.Sort(names[known:])
	return names
}

// expand resolves groups; each tool comes once, in the order asked for.
func expand(names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		members, isGroup := groups[name]
		if !isGroup {
			members = []string{name}
		}
		for _, member := range members {
			if _, known := tools[member]; !known {
				return nil, fmt.Errorf("no tool %q; there are: %s", member, strings.Join(Names(), " "))
			}
			if !slices.Contains(all, member) {
				all = append(all, member)
			}
		}
	}
	return all, nil
}

// linkFlags strip the binaries and give Kubernetes its version, which it otherwise does not know.
func linkFlags() string {
	flags := []string{"-s", "-w"}
	stamp := map[string]string{
		"gitVersion": kubernetesVersion, "gitMajor": "1", "gitMinor": "37",
		"gitTreeState": "clean", "gitCommit": "lab", "buildDate": "1970-01-01T00:00:00Z",
	}
	order := []string{"gitVersion", "gitMajor", "gitMinor", "gitTreeState", "gitCommit", "buildDate"}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, name := range order {
			flags = append(flags, "-X", pkg+"."+name+"="+stamp[name])
		}
	}
	return strings.Join(flags, " ")
}
