package lab

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/shale-storage/shale/hack/lab/pki"
)

// Kubeconfig is the administrator's; its address answers only within the lab's networks, see Dial.
func (c *Cluster) Kubeconfig() string { return c.pki("admin.kubeconfig") }

// Dial connects from within the control plane's network; give it to Kubernetes clients in this process.
func (c *Cluster) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return c.space(controlPlane).Dial(ctx, network, address)
}

// Kubectl runs kubectl as the administrator and returns what it printed.
func (c *Cluster) Kubectl(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	return c.space(controlPlane).Run(ctx, input, c.asAdmin(c.bin("kubectl"), args)...)
}

// Helm runs helm as the administrator and returns what it printed.
func (c *Cluster) Helm(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	return c.space(controlPlane).Run(ctx, input, c.asAdmin(c.store.read().Helm, args)...)
}

// KubectlLine is the command line of Kubectl, for a terminal: files are looked for where the caller is.
func (c *Cluster) KubectlLine(args ...string) []string {
	return c.atTerminal(c.bin("kubectl"), args)
}

// HelmLine is the command line of Helm, for a terminal.
func (c *Cluster) HelmLine(args ...string) []string {
	return c.atTerminal(c.store.read().Helm, args)
}

func (c *Cluster) asAdmin(program string, args []string) []string {
	return append([]string{"env", "KUBECONFIG=" + c.Kubeconfig(), program}, args...)
}

// atTerminal is asAdmin in the caller's directory, which a mount namespace is not entered with.
func (c *Cluster) atTerminal(program string, args []string) []string {
	line := c.asAdmin(program, args)
	if dir, err := os.Getwd(); err == nil {
		line = slices.Insert(line, 1, "--chdir="+dir)
	}
	return c.space(controlPlane).Entering(line...)
}

// newClient speaks HTTP to the API server as the administrator.
func (c *Cluster) newClient() *http.Client {
	config, err := pki.Client(c.pki(""), "admin")
	if err != nil {
		// A lab that never had certificates must still be ended.
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: &http.Transport{DialContext: c.Dial, TLSClientConfig: config}}
}

func (c *Cluster) insecureClient() *http.Client {
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: &http.Transport{DialContext: c.Dial, TLSClientConfig: config}}
}

// nodeStatus is what ready reads of a Node object, nodeLease of its Lease.
type nodeStatus struct {
	Status struct {
		Conditions []struct{ Type, Status, Reason, Message string }
	}
}

type nodeLease struct {
	Spec struct{ RenewTime time.Time }
}

// readySince asks the API server whether the node is ready, and heard of since that moment: the object of a node that
// lost its power may still call it ready.
func (n *Node) readySince(ctx context.Context, began time.Time) error {
	var lease nodeLease
	const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"
	if err := n.cluster.get(ctx, leases+n.Name, &lease); err != nil {
		return err
	}
	if lease.Spec.RenewTime.Before(began) {
		return errors.New("node has not renewed its lease since it started")
	}
	var status nodeStatus
	if err := n.cluster.get(ctx, "/api/v1/nodes/"+n.Name, &status); err != nil {
		return err
	}
	for _, condition := range status.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		if condition.Status != "True" {
			return fmt.Errorf("node says %s: %s", condition.Reason, condition.Message)
		}
		return nil
	}
	return errors.New("node has no condition Ready yet")
}

// get reads an object of the API server.
func (c *Cluster) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, apiServer+path, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask API server: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask API server for %s: it says %s", path, answer.Status)
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
