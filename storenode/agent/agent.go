package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/shale-storage/shale/api/control"
	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/shard"
)

// Names of the cache's indexes.
const (
	shardsByVolume = "spec.volumeName"
	shardsByDevice = "spec.replicas.deviceName"
)

// shardWorkers bound the Shards that are brought in line at once.
const shardWorkers = 4

// Options say who this storenode is. All fields must be given.
type Options struct {
	// Config reaches the API server.
	Config *rest.Config
	// Node is the Kubernetes node; Namespace is Shale's own.
	Node, Namespace string
	// Address is host:port at which peers and clients reach this storenode.
	Address string
	// Version of the program, Incarnation of this process, for people.
	Version, Incarnation string
	Log                  *slog.Logger
	Clock                clock.WithTicker
}

// Agent ties one Host to Kubernetes. It is the Host's shard.Authority.
type Agent struct {
	options   Options
	manager   manager.Manager
	reader    client.Reader
	places    *places
	proposals *proposals
	silence   *silence
	lease     *lease
	// registration keeps the StoreNode object.
	registration *registration
	startup      *startup
}

var _ shard.Authority = (*Agent)(nil)

// New makes an Agent. It talks to nobody before Run.
func New(o Options) (*Agent, error) {
	scheme := runtime.NewScheme()
	err := errors.Join(v1alpha1.AddToScheme(scheme), coordinationv1.AddToScheme(scheme), corev1.AddToScheme(scheme))
	if err != nil {
		return nil, fmt.Errorf("register types: %w", err)
	}
	m, err := ctrl.NewManager(o.Config, ctrl.Options{
		Scheme:  scheme,
		Logger:  logr.FromSlogHandler(o.Log.Handler()),
		Metrics: metricsserver.Options{BindAddress: "0"}, // the storenode has an endpoint of its own
		// Names need to be unique in a process for those metrics alone.
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Client: client.Options{Cache: &client.CacheOptions{
			DisableFor: []client.Object{&coordinationv1.Lease{}, &corev1.Node{}},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	a := &Agent{options: o, manager: m, reader: m.GetAPIReader()}
	a.places = &places{api: m.GetClient(), node: o.Node, local: map[string]ident.UUID{}}
	a.startup = newStartup(m.GetClient(), o.Node, o.Clock)
	a.silence = &silence{
		api: m.GetClient(), reader: a.reader, clock: o.Clock, node: o.Node, nodes: a.places.nodes, log: o.Log,
		wake: make(chan struct{}, 1),
	}
	a.lease = &lease{
		api: m.GetClient(), reader: a.reader, clock: o.Clock, namespace: o.Namespace, node: o.Node,
		holder: o.Incarnation, log: o.Log,
	}
	a.registration = &registration{
		api: m.GetClient(), reader: a.reader, clock: o.Clock, node: o.Node, address: o.Address, version: o.Version,
		incarnation: o.Incarnation, log: o.Log, made: a.silence.again,
	}
	a.proposals = (&proposals{
		api: m.GetClient(), reader: a.reader, log: o.Log,
		resolve: func(spec *v1alpha1.ShardSpec) (membership.Record, error) { return record(spec, a.places.address) },
	}).init()
	return a, nil
}

// Propose implements shard.Authority.
func (a *Agent) Propose(id ident.ShardID, next membership.Record) { a.proposals.put(id, next) }

// Unreachable implements shard.Authority.
func (a *Agent) Unreachable(addresses []string) { a.silence.set(slices.Clone(addresses)) }

// Ready is nil once the Devices of all Pools have been looked at, and while none is being opened, unless that hangs.
// What is in service by then is in the Host.
func (a *Agent) Ready(ctx context.Context) error { return a.startup.ready(ctx) }

// Run ties the Host to Kubernetes until ctx ends.
func (a *Agent) Run(ctx context.Context, host shard.Manager, opener Opener) error {
	if err := a.registration.first(ctx); err != nil {
		return err
	}
	rep := &report{
		api: a.manager.GetClient(), reader: a.reader, host: host, opener: opener, places: a.places,
		clock: a.options.Clock, node: a.options.Node, incarnation: a.options.Incarnation, log: a.options.Log,
		kick:     make(chan struct{}, 1),
		failures: map[ident.ReplicaKey]failure{}, told: map[ident.ShardID]told{},
		errors: map[ident.UUID]*deviceErrors{}, away: map[ident.ReplicaKey]away{},
	}
	sh := &shards{
		api: a.manager.GetClient(), reader: a.reader, host: host, places: a.places, report: rep, log: a.options.Log,
		names: map[ident.ShardID]string{}, ids: map[string]ident.ShardID{}, slow: map[ident.ReplicaKey]bool{},
	}
	rep.findings = &findings{
		api: a.manager.GetClient(), events: a.manager.GetEventRecorder("shale-storenode"), name: sh.name,
		told: map[ident.ReplicaKey]shard.Findings{}, log: a.options.Log,
	}
	rep.name, a.proposals.name, a.proposals.decided = sh.name, sh.name, host.Decided
	a.proposals.held = func(id ident.ShardID) bool { return isHeld(host, id) }
	err := errors.Join(
		a.index(ctx),
		a.controllers(host, opener, sh, rep),
		a.manager.Add(manager.RunnableFunc(a.proposals.run)),
		a.manager.Add(manager.RunnableFunc(a.lease.run)),
		a.manager.Add(manager.RunnableFunc(a.silence.run)),
		a.manager.Add(manager.RunnableFunc(rep.run)),
	)
	if err != nil {
		return fmt.Errorf("assemble agent: %w", err)
	}
	return a.manager.Start(ctx)
}

func (a *Agent) index(ctx context.Context) error {
	indexer := a.manager.GetFieldIndexer()
	byDevice := func(o client.Object) []string {
		s, ok := o.(*v1alpha1.Shard)
		if !ok {
			return nil
		}
		var devices []string
		for _, c := range s.Spec.Replicas {
			devices = append(devices, c.DeviceName)
		}
		return devices
	}
	return errors.Join(
		indexer.IndexField(ctx, &v1alpha1.Shard{}, shardsByVolume, ofVolume),
		indexer.IndexField(ctx, &v1alpha1.Shard{}, shardsByDevice, byDevice),
	)
}

func ofVolume(o client.Object) []string {
	if s, ok := o.(*v1alpha1.Shard); ok {
		return []string{s.Spec.VolumeName}
	}
	return nil
}

func (a *Agent) controllers(host shard.Manager, opener Opener, sh *shards, rep *report) error {
	api := a.manager.GetClient()
	// A Device that comes into service concerns Shards that were looked at before, when it was not here yet.
	inService := make(chan event.GenericEvent, maxDevices)
	pool := &pools{
		api: api, node: a.options.Node, opener: opener, places: a.places, report: rep, log: a.options.Log,
		served: map[string]serving{}, inService: inService,
		attempts: map[string]attempt{}, patience: openPatience, releases: map[ident.UUID]release{},
		rivals: map[string]rival{}, namespace: a.options.Namespace, startup: a.startup,
	}
	volume := &volumes{api: api, host: host, places: a.places, ids: map[string]ident.UUID{}}
	moved := handler.EnqueueRequestsFromMapFunc(a.shardsTouchedBy)
	return errors.Join(
		ctrl.NewControllerManagedBy(a.manager).Named("pool").
			For(&v1alpha1.Pool{}, control.SpecChanges()).
			Watches(&v1alpha1.Device{}, handler.EnqueueRequestsFromMapFunc(a.poolOfDevice), existence()).
			WithOptions(control.Workers(1)).
			Complete(pool),
		ctrl.NewControllerManagedBy(a.manager).Named("shard").
			For(&v1alpha1.Shard{}, control.SpecChanges()).
			Watches(&v1alpha1.Volume{}, moved, control.SpecChanges()).
			Watches(&v1alpha1.Device{}, moved, control.SpecChanges()).
			Watches(&v1alpha1.StoreNode{}, moved, control.SpecChanges()).
			WatchesRawSource(source.Channel(inService, moved)).
			WithOptions(control.Workers(shardWorkers)).
			Complete(sh),
		ctrl.NewControllerManagedBy(a.manager).Named("volume").
			For(&v1alpha1.Volume{}, control.SpecChanges()).
			Watches(&v1alpha1.Shard{}, handler.EnqueueRequestsFromMapFunc(volumeOfShard), control.SpecChanges()).
			Watches(&v1alpha1.Device{}, handler.EnqueueRequestsFromMapFunc(a.volumesTouchedBy), control.SpecChanges()).
			Watches(&v1alpha1.StoreNode{}, handler.EnqueueRequestsFromMapFunc(a.volumesTouchedBy), control.SpecChanges()).
			WithOptions(control.Workers(1)).
			Complete(volume),
		ctrl.NewControllerManagedBy(a.manager).Named("storenode").
			For(&v1alpha1.StoreNode{}, control.SpecChanges()).
			WithOptions(control.Workers(1)).
			Complete(a.registration),
	)
}

// poolOfDevice is the Pool of a Device that was last here: it is looked for though the Pool may be gone, and its object
// is made again when a person deleted it, as nobody finds its Replicas without.
func (a *Agent) poolOfDevice(_ context.Context, o client.Object) []reconcile.Request {
	d, ok := o.(*v1alpha1.Device)
	if !ok || d.Spec.NodeName != a.options.Node {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: d.Spec.PoolName}}}
}

func volumeOfShard(_ context.Context, o client.Object) []reconcile.Request {
	s, ok := o.(*v1alpha1.Shard)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: s.Spec.VolumeName}}}
}
