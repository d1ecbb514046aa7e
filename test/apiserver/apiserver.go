// Package apiserver starts a real etcd and kube-apiserver with Shale's definitions, for tests.
//
// Their binaries are those of KUBEBUILDER_ASSETS, which `make test` builds. Where it is not set, tests are skipped and
// say so. A server listens on loopback and keeps its state in a temporary directory; nothing of it outlives Stop.
package apiserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Missing says why tests are skipped, and what to do about it.
const Missing = "needs etcd and kube-apiserver: KUBEBUILDER_ASSETS=$(go run ./hack/toolbox/build -dir envtest)"

// A busy machine takes more than envtest's 20 seconds.
const startTimeout, stopTimeout = 3 * time.Minute, time.Minute

// Server is a running one.
type Server struct {
	// Config is for a client that may do everything.
	Config *rest.Config
	env    *envtest.Environment
}

// Available reports whether there are binaries to start.
func Available() bool { return os.Getenv("KUBEBUILDER_ASSETS") != "" }

// Start starts a server; whoever does ends it by Stop.
func Start() (*Server, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	env := &envtest.Environment{
		CRDDirectoryPaths: []string{filepath.Join(root, "config", "crd", "bases")}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: startTimeout, ControlPlaneStopTimeout: stopTimeout,
	}
	config, err := env.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start an API server to test with: %w", err), env.Stop())
	}
	return &Server{Config: config, env: env}, nil
}

// For starts a server for the time of a test, which is skipped where there are no binaries.
func For(t *testing.T) *Server {
	t.Helper()
	if !Available() {
		t.Skip(Missing)
	}
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Stop ends the server and removes what it left.
func (s *Server) Stop() error {
	if err := s.env.Stop(); err != nil {
		return fmt.Errorf("stop the API server: %w", err)
	}
	return nil
}

// Kubeconfig writes a file by which a program finds the server, and returns its path.
func (s *Server) Kubeconfig(t *testing.T) string {
	t.Helper()
	user, err := s.env.AddUser(envtest.User{Name: "test", Groups: []string{"system:masters"}}, s.Config)
	if err != nil {
		t.Fatal(err)
	}
	text, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// moduleRoot is the directory of go.mod: tests run in the directory of their package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the module: no go.mod above the working directory")
		}
	}
}
