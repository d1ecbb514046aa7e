package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
	"github.com/shale-storage/shale/operator/metrics"
	"github.com/shale-storage/shale/operator/reconcilers/shard"
	"github.com/shale-storage/shale/operator/reconcilers/storenode"
)

const (
	leaderID = "shale-operator"
	// The lead changes hands within seconds: while nobody leads, no Backup is promoted. Two that lead for a moment do no
	// harm: all they write is by compare-and-swap. A leader that cannot renew for leaderRenew ends and starts anew.
	leaderLease = 3 * time.Second
	leaderRenew = 2 * time.Second
	leaderRetry = 500 * time.Millisecond
)

// Options of an operator. All fields must be given but the addresses and those that say so, where empty is none.
type Options struct {
	Namespace               string
	LeaderElect             bool
	MetricsAddr, HealthAddr string
	ReplaceAfter            time.Duration
	// Node is the Kubernetes node that the operator runs on, empty for none.
	Node string
	// Evacuate dead nodes, which Hosts tells; it dials if not given.
	Evacuate bool
	Hosts    storenode.Hosts
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Clock is real if not given.
	Clock clock.PassiveClock
	// Wrap lets a test stand between the reconcilers and the API.
	Wrap func(client.Client) client.Client
	// SkipNameValidation lets several managers live in one process, for tests.
	SkipNameValidation bool
	// unhurried is how many times longer than usual the leader has to renew its lease: a test must not lose it because the
	// machine is busy.
	unhurried int
}

// Scheme knows what the operator reads and writes.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	err := errors.Join(v1alpha1.AddToScheme(scheme), coordinationv1.AddToScheme(scheme), corev1.AddToScheme(scheme),
		eventsv1.AddToScheme(scheme))
	if err != nil {
		return nil, fmt.Errorf("register types: %w", err)
	}
	return scheme, nil
}

// Manager is the operator, ready to start.
func Manager(ctx context.Context, config *rest.Config, o Options) (manager.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Hosts == nil {
		o.Hosts = dialer{}
	}
	lease, renew, retry := leaderLease, leaderRenew, leaderRetry
	if o.unhurried > 0 {
		lease, renew = lease*time.Duration(o.unhurried), renew*time.Duration(o.unhurried)
	}
	options := ctrl.Options{
		Scheme: scheme, Logger: logr.FromSlogHandler(o.Log.Handler()),
		LeaderElection: o.LeaderElect, LeaderElectionID: leaderID, LeaderElectionNamespace: o.Namespace,
		LeaderElectionReleaseOnCancel: true, LeaseDuration: &lease, RenewDeadline: &renew, RetryPeriod: &retry,
		Metrics:                metricsserver.Options{BindAddress: orNone(o.MetricsAddr)},
		HealthProbeBindAddress: orNone(o.HealthAddr),
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&coordinationv1.Lease{}: {Namespaces: map[string]cache.Config{o.Namespace: {}, corev1.NamespaceNodeLease: {}}},
		}},
	}
	options.Controller.SkipNameValidation = &o.SkipNameValidation
	m, err := ctrl.NewManager(config, options)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	alive := liveness.New(o.Clock)
	p := &parts{
		manager: m, options: o, api: m.GetClient(), alive: alive,
		inventory: inventory.New(m.GetCache(), alive, o.Clock), metrics: metrics.New(o.Registry),
	}
	if o.Wrap != nil {
		p.api = o.Wrap(p.api)
	}
	err = errors.Join(
		inventory.Index(ctx, m.GetFieldIndexer(), shard.Devices),
		p.watchLeases(ctx),
		p.tallyShards(ctx),
		p.controllers(),
		m.AddHealthzCheck("alive", healthz.Ping),
		m.AddReadyzCheck("alive", healthz.Ping),
	)
	if err != nil {
		return nil, fmt.Errorf("assemble operator: %w", err)
	}
	return m, nil
}

func orNone(address string) string {
	if address == "" {
		return "0"
	}
	return address
}
