package definitions

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/test/apiserver"
)

// server is a real API server with the definitions of config/crd; nil where there is none to start.
var server client.WithWatch

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if !apiserver.Available() {
		return m.Run()
	}
	log.SetLogger(logr.Discard())
	running, err := apiserver.Start()
	if err != nil {
		slog.Error("No API server", "error", err)
		return 1
	}
	defer func() {
		if err := running.Stop(); err != nil {
			slog.Error("An API server is left", "error", err)
		}
	}()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		slog.Error("No scheme", "error", err)
		return 1
	}
	if server, err = client.NewWithWatch(running.Config, client.Options{Scheme: scheme}); err != nil {
		slog.Error("No client", "error", err)
		return 1
	}
	return m.Run()
}

func needsAPI(t *testing.T) {
	t.Helper()
	if server == nil {
		t.Skip(apiserver.Missing)
	}
}

// change is one case: what is created, what it becomes (nil: it is only created), and a part of the refusal ("" if it
// is accepted). The refusal must name the field.
type change[T client.Object] struct {
	name    string
	from    func(T)
	to      func(T)
	refusal string
}

// try runs one case on an object of its own.
func (c *change[T]) try(ctx context.Context, o T) error {
	if c.from != nil {
		c.from(o)
	}
	err := server.Create(ctx, o)
	if c.to == nil || err != nil {
		return err
	}
	c.to(o)
	return server.Update(ctx, o)
}

func (c *change[T]) check(t *testing.T, o T) {
	t.Helper()
	err := c.try(t.Context(), o)
	switch {
	case c.refusal == "" && err != nil:
		t.Errorf("want it accepted, got %v", err)
	case c.refusal != "" && err == nil:
		t.Errorf("want it refused with %q, it was accepted", c.refusal)
	case c.refusal != "" && !strings.Contains(err.Error(), c.refusal):
		t.Errorf("want it refused with %q, got %v", c.refusal, err)
	}
}

func checkAll[T client.Object](t *testing.T, fresh func(name string) T, cases []change[T]) {
	t.Helper()
	needsAPI(t)
	for i := range cases {
		t.Run(cases[i].name, func(t *testing.T) {
			cases[i].check(t, fresh(fmt.Sprintf("case-%d", i)))
		})
	}
}

// uuid is one that depends on n.
func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

func device(n int) string { return "dev-" + uuid(n) }

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
