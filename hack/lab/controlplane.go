package lab

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/shale-storage/shale/hack/lab/pki"
	"github.com/shale-storage/shale/hack/lab/space"
)

// startWithin bounds how long one component may take to be ready; a busy machine needs many times the usual 4 s.
const startWithin = 90 * time.Second

// controlPlane is the name of its machine.
const controlPlane = "control-plane"

// issue makes all certificates of a lab with so many nodes.
func issue(dir string, nodes int) error {
	ca, err := pki.New(dir)
	if err != nil {
		return err
	}
	if err := ca.ServiceAccounts(); err != nil {
		return err
	}
	plain := []pki.Subject{
		{File: "apiserver", User: "kube-apiserver", Hosts: []string{
			controlIP, serviceIP, "127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local",
		}},
		{File: "kubelet-client", User: "kube-apiserver-kubelet-client", Group: "system:masters"},
	}
	for _, s := range plain {
		if _, _, err := ca.Issue(s); err != nil {
			return err
		}
	}
	clients := []pki.Subject{
		{File: "admin", User: "admin", Group: "system:masters"},
		{File: "controller-manager", User: "system:kube-controller-manager"},
		{File: "scheduler", User: "system:kube-scheduler"},
	}
	for i := range nodes {
		name := nodeName(i + 1)
		clients = append(clients, pki.Subject{
			File: name, User: "system:node:" + name, Group: "system:nodes", Hosts: []string{name, nodeIP(i + 1)},
		})
	}
	for _, s := range clients {
		if err := ca.Kubeconfig(s, apiServer); err != nil {
			return err
		}
	}
	return nil
}

// control is where the control plane's programs run.
func (c *Cluster) control() where {
	return where{space: c.space(controlPlane), dir: c.logDir(controlPlane), restart: true}
}

// startControlPlane starts etcd, then all that needs the API server when that answers.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	w := c.control()
	etcd, err := w.start(ctx, "etcd", c.etcdLine()...)
	if err != nil {
		return err
	}
	server, err := w.start(ctx, "kube-apiserver", c.apiServerLine()...)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := server.await(ctx, c.healthy(apiServer+"/readyz")); err != nil {
		// Without etcd it is never ready.
		return fmt.Errorf("%w%s", err, etcd.told())
	}
	c.log.Info("API server answers", "seconds", seconds(began))
	manager, err := w.start(ctx, "kube-controller-manager", c.managerLine()...)
	if err != nil {
		return err
	}
	scheduler, err := w.start(ctx, "kube-scheduler", c.schedulerLine()...)
	if err != nil {
		return err
	}
	if err := manager.await(ctx, c.healthy("https://127.0.0.1:10257/healthz")); err != nil {
		return err
	}
	return scheduler.await(ctx, c.healthy("https://127.0.0.1:10259/healthz"))
}

// StopAPIServer ends the API server by SIGKILL, until StartAPIServer; etcd, scheduler and controllers go on.
func (c *Cluster) StopAPIServer() error {
	c.log.Info("Ending API server")
	return c.control().end("kube-apiserver")
}

// StartAPIServer takes back StopAPIServer and waits until it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	c.log.Info("Starting API server")
	server, err := c.control().start(ctx, "kube-apiserver", c.apiServerLine()...)
	if err != nil {
		return err
	}
	return server.await(ctx, c.healthy(apiServer+"/readyz"))
}

func (c *Cluster) etcdLine() []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{
		c.bin("etcd"), "--data-dir=" + filepath.Join(c.Dir, controlPlane, "etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client, "--listen-peer-urls=" + peer,
		// The lab's memory of itself need not survive the host.
		"--unsafe-no-fsync",
	}
}

func (c *Cluster) apiServerLine() []string {
	p := c.pki
	return []string{
		c.bin("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379",
		"--secure-port=443", "--bind-address=0.0.0.0", "--advertise-address=" + controlIP,
		"--tls-cert-file=" + p("apiserver.crt"), "--tls-private-key-file=" + p("apiserver.key"),
		"--client-ca-file=" + p("ca.crt"), "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-key-file=" + p("sa.pub"), "--service-account-signing-key-file=" + p("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=" + serviceCIDR,
		"--kubelet-client-certificate=" + p("kubelet-client.crt"), "--kubelet-client-key=" + p("kubelet-client.key"),
		"--kubelet-certificate-authority=" + p("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true", "--enable-aggregator-routing=true", "--profiling=false",
		// A dead node is noticed after 16 s; its pods are evicted 30 s later.
		"--default-not-ready-toleration-seconds=30", "--default-unreachable-toleration-seconds=30",
	}
}

func (c *Cluster) managerLine() []string {
	p := c.pki
	return []string{
		c.bin("kube-controller-manager"), "--kubeconfig=" + p("controller-manager.kubeconfig"),
		"--service-account-private-key-file=" + p("sa.key"), "--root-ca-file=" + p("ca.crt"),
		"--use-service-account-credentials", "--leader-elect=false", "--bind-address=127.0.0.1",
		"--node-monitor-period=2s", "--node-monitor-grace-period=16s", "--profiling=false",
	}
}

func (c *Cluster) schedulerLine() []string {
	return []string{
		c.bin("kube-scheduler"), "--kubeconfig=" + c.pki("scheduler.kubeconfig"),
		"--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false",
	}
}

// healthy asks a URL of the control plane. Its own health ports have certificates of their own making.
func (c *Cluster) healthy(url string) func(context.Context) error {
	client := c.insecureClient()
	if url == apiServer+"/readyz" {
		client = c.client
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		answer, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, answer.Status)
		}
		return nil
	}
}

// space is a machine's namespaces.
func (c *Cluster) space(machine string) space.Space {
	return space.Space{Holder: c.store.read().Holders[machine], Group: c.group.Child(machine).Child("system")}
}

// newSpace makes a machine's namespaces and remembers them.
func (c *Cluster) newSpace(ctx context.Context, machine string) (space.Space, error) {
	group := c.group.Child(machine).Child("system")
	if err := group.Make(); err != nil {
		return space.Space{}, err
	}
	s, err := space.New(ctx, group)
	if err != nil {
		return s, fmt.Errorf("make machine %s: %w", machine, err)
	}
	return s, c.store.change(func(st *state) { st.Holders[machine] = s.Holder })
}

// inParallel runs all and returns the errors joined in order.
func inParallel(all ...func() error) []error {
	errs := make([]error, len(all))
	var running sync.WaitGroup
	for i, f := range all {
		running.Go(func() { errs[i] = f() })
	}
	running.Wait()
	return errs
}

func seconds(since time.Time) float64 { return float64(time.Since(since).Milliseconds()) / 1000 }
