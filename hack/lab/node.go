package lab

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Node is one machine for pods.
type Node struct {
	Name string
	// Index counts from 1.
	Index int

	cluster *Cluster
}

func nodeName(index int) string { return fmt.Sprintf("n%d", index) }

// Zone is the node's failure domain; each has its own.
func (n *Node) Zone() string { return fmt.Sprintf("zone-%d", n.Index) }

// IP is the node's address.
func (n *Node) IP() string { return nodeIP(n.Index) }

// Root is where the host sees the node's own files: what the node calls /var/lib/shale is Root/var/lib/shale.
func (n *Node) Root() string { return filepath.Join(n.cluster.Dir, n.Name, "root") }

// SSD is the node's SSD as the node sees it.
const SSD = "/var/lib/shale/devices/ssd0.img"

// BootID is a file of the node that stands in for its kernel's boot_id, which is the host's: it changes whenever the
// node is powered on. A storenode of the lab is told to read it (--boot-id-file), or it would not know that its node
// lost power.
const BootID = "/var/lib/shale/boot_id"

// keptDirs are a node's own and survive a power failure; lostDirs are its own and do not.
var (
	keptDirs = []string{
		"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/lib/shale", "/var/log/pods",
		"/var/log/containers", "/opt/cni", "/etc/cni",
	}
	lostDirs = []string{"/run/containerd", "/run/netns", "/run/shale", "/dev/shale"}
)

// start switches the node on: namespaces, cable, disks, containerd, images, kubelet.
func (n *Node) start(ctx context.Context) error {
	c := n.cluster
	if err := n.prepareDisks(); err != nil {
		return fmt.Errorf("prepare disks of %s: %w", n.Name, err)
	}
	s, err := c.newSpace(ctx, n.Name)
	if err != nil {
		return err
	}
	if err := c.plug(ctx, n); err != nil {
		return err
	}
	if _, err := s.Run(ctx, nil, "/bin/sh", "-e", "-c", mountScript(n.Name, n.Root())); err != nil {
		return fmt.Errorf("mount directories of %s: %w", n.Name, err)
	}
	if err := c.forward(ctx, n.Name); err != nil {
		return err
	}
	return n.startContainerd(ctx)
}

// prepareDisks makes what the node finds on its disks when it starts.
func (n *Node) prepareDisks() error {
	for _, dir := range lostDirs {
		if err := os.RemoveAll(filepath.Join(n.Root(), dir)); err != nil {
			return err
		}
	}
	for _, dir := range slices.Concat(keptDirs, lostDirs) {
		if err := os.MkdirAll(filepath.Join(n.Root(), dir), 0o755); err != nil {
			return err
		}
	}
	if err := n.prepareKernelSettings(); err != nil {
		return err
	}
	if err := n.drawBootID(); err != nil {
		return err
	}
	if err := n.prepareNetworkPlugins(); err != nil {
		return err
	}
	files := map[string]string{
		"containerd.toml": containerdConfig(n.cluster.store.read().Bin),
		"kubelet.yaml":    kubeletConfig(n.cluster.pki(""), n.Name, n.cluster.group.Child(n.Name).Path()),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(n.cluster.Dir, n.Name, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return n.prepareSSD()
}

func (n *Node) prepareNetworkPlugins() error {
	config := filepath.Join(n.Root(), "/etc/cni/net.d")
	if err := os.MkdirAll(config, 0o755); err != nil {
		return err
	}
	text := []byte(cniConfig(podCIDR(n.Index)))
	if err := os.WriteFile(filepath.Join(config, "10-lab.conflist"), text, 0o600); err != nil {
		return err
	}
	bin := filepath.Join(n.Root(), "/opt/cni/bin")
	if _, err := os.Lstat(bin); err == nil {
		return nil
	}
	return os.Symlink(n.cluster.store.read().CNI, bin)
}

// prepareSSD makes the SSD if there is none; an old one keeps its content.
func (n *Node) prepareSSD() error {
	file := filepath.Join(n.Root(), SSD)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if os.IsExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Truncate(n.cluster.store.read().SSDSize)
}

// kernelSettings are those that a kubelet demands. They are the host's and stay as they are: the node's kubelet reads
// these values from files of the lab.
var kernelSettings = map[string]string{
	"/proc/sys/vm/overcommit_memory":      "1",
	"/proc/sys/vm/panic_on_oom":           "0",
	"/proc/sys/kernel/panic":              "10",
	"/proc/sys/kernel/panic_on_oops":      "1",
	"/proc/sys/kernel/keys/root_maxkeys":  "1000000",
	"/proc/sys/kernel/keys/root_maxbytes": "25000000",
}

// prepareKernelSettings writes the files that stand in for kernelSettings.
func (n *Node) prepareKernelSettings() error {
	for setting, value := range kernelSettings {
		file := filepath.Join(n.Root(), setting)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// drawBootID writes BootID anew.
func (n *Node) drawBootID() error {
	return os.WriteFile(filepath.Join(n.Root(), BootID), []byte(rand.Text()+"\n"), 0o644)
}

// mountScript shows the node's own directories at their places. Everything is bound while mounts are private and made
// shared afterwards, so that each is a peer group of its own and a mount below it appears once.
func mountScript(name, root string) string {
	lines := []string{"hostname " + name}
	for _, dir := range slices.Concat(keptDirs, lostDirs) {
		lines = append(lines, "mkdir -p "+dir, "mount --bind "+filepath.Join(root, dir)+" "+dir)
	}
	for _, file := range slices.Sorted(maps.Keys(kernelSettings)) {
		lines = append(lines, "[ ! -e "+file+" ] || mount --bind "+filepath.Join(root, file)+" "+file)
	}
	return strings.Join(append(lines, "mount --make-rshared /"), "\n")
}

func (n *Node) where() where {
	return where{space: n.cluster.space(n.Name), dir: n.cluster.logDir(n.Name), env: []string{n.path()}}
}

// path finds containerd's shim and runc.
func (n *Node) path() string {
	return "PATH=" + n.cluster.store.read().Bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

func (n *Node) startContainerd(ctx context.Context) error {
	config := filepath.Join(n.cluster.Dir, n.Name, "containerd.toml")
	containerd, err := n.where().start(ctx, "containerd", n.cluster.bin("containerd"), "--config", config)
	if err != nil {
		return err
	}
	err = containerd.await(ctx, func(ctx context.Context) error {
		_, err := n.ctr(ctx, "version")
		return err
	})
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return nil
}

// startKubelet starts the kubelet and waits until the API server calls the node ready.
func (n *Node) startKubelet(ctx context.Context) error {
	began := time.Now()
	dir := filepath.Join(n.cluster.Dir, n.Name)
	kubelet, err := n.where().start(ctx, "kubelet", n.cluster.bin("kubelet"),
		"--config="+filepath.Join(dir, "kubelet.yaml"), "--kubeconfig="+n.cluster.pki(n.Name+".kubeconfig"),
		"--hostname-override="+n.Name, "--node-ip="+n.IP(), "--node-labels=topology.kubernetes.io/zone="+n.Zone(), "--v=2")
	if err != nil {
		return err
	}
	ready := func(ctx context.Context) error { return n.readySince(ctx, began) }
	if err := kubelet.await(ctx, ready); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	n.cluster.log.Info("Node is ready", "node", n.Name, "address", n.IP(), "zone", n.Zone(), "seconds", seconds(began))
	return nil
}

// Exec runs a command on the node to its end and returns what it printed.
func (n *Node) Exec(ctx context.Context, argv ...string) ([]byte, error) {
	return n.cluster.space(n.Name).Run(ctx, nil, append([]string{"env", n.path()}, argv...)...)
}

// Line is the command line of Exec, for a terminal.
func (n *Node) Line(argv ...string) []string {
	return n.cluster.space(n.Name).Entering(append([]string{"env", n.path()}, argv...)...)
}

func (n *Node) ctr(ctx context.Context, args ...string) ([]byte, error) {
	return n.Exec(ctx, append([]string{n.cluster.bin("ctr"), "--namespace", "k8s.io"}, args...)...)
}
