package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/shale-storage/shale/api/control"
	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/evacuation"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/liveness"
	"github.com/shale-storage/shale/operator/metrics"
	"github.com/shale-storage/shale/operator/reconcilers/pool"
	"github.com/shale-storage/shale/operator/reconcilers/shard"
	"github.com/shale-storage/shale/operator/reconcilers/snapshot"
	"github.com/shale-storage/shale/operator/reconcilers/storenode"
	"github.com/shale-storage/shale/operator/reconcilers/volume"
)

const (
	// leasePrefix and the node's name make the name of a storenode's Lease.
	leasePrefix = "storenode-"
	// shardWorkers bound the Shards that fail over at once; each waits for the API server once or twice.
	shardWorkers  = 16
	volumeWorkers = 4
	// storenodeWorkers bound the suspects asked at once. Each may sleep a second in a dial, in which others that die wait
	// to be told of; so there are as many as a rack has.
	storenodeWorkers = 64
	// maxChanges bounds the storenodes that die before the Shards' reconciler hears of the first.
	maxChanges = 256
)

// parts are what the controllers share.
type parts struct {
	manager   manager.Manager
	options   Options
	api       client.Client
	alive     *liveness.Tracker
	inventory *inventory.Inventory
	metrics   *metrics.Metrics
}

func (p *parts) controllers() error {
	changed := make(chan event.GenericEvent, maxChanges)
	return errors.Join(p.storenodes(changed), p.shards(changed), p.volumes(), p.pools(), p.snapshots())
}

func (p *parts) storenodes(changed chan<- event.GenericEvent) error {
	return ctrl.NewControllerManagedBy(p.manager).Named("storenode").
		For(&v1alpha1.StoreNode{}).
		Watches(&coordinationv1.Lease{}, handler.EnqueueRequestsFromMapFunc(p.renewal)).
		WithOptions(control.Workers(storenodeWorkers)).
		Complete(&storenode.Reconciler{
			API: p.api, Alive: p.alive, Metrics: p.metrics, Log: p.options.Log, Changed: changed, Nodes: p.nodes(),
		})
}

// nodes looks after dead nodes. Who is dead is found out in any case: people who give Replicas up must know.
func (p *parts) nodes() *storenode.Nodes {
	nodes := &storenode.Nodes{
		API: p.api, Alive: p.alive, Hosts: p.options.Hosts, Node: p.options.Node, Metrics: p.metrics,
		Log: p.options.Log,
	}
	if p.options.Evacuate {
		nodes.Evacuator = &evacuation.Evacuator{
			API: p.api, Live: p.manager.GetAPIReader(), Events: p.manager.GetEventRecorder("shale-operator"),
		}
	}
	return nodes
}

// watchLeases notes each renewal at the moment it is heard of, not when a worker gets to it, and whether this operator
// leads or not.
func (p *parts) watchLeases(ctx context.Context) error {
	informer, err := p.manager.GetCache().GetInformer(ctx, &coordinationv1.Lease{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch leases: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    p.observe,
		UpdateFunc: func(_, o any) { p.observe(o) },
	})
	return err
}

// tallyShards keeps the inventory's sums.
func (p *parts) tallyShards(ctx context.Context) error {
	informer, err := p.manager.GetCache().GetInformer(ctx, &v1alpha1.Shard{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch shards: %w", err)
	}
	note := func(o any) {
		if s, ok := o.(*v1alpha1.Shard); ok {
			p.inventory.Note(s)
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    note,
		UpdateFunc: func(_, o any) { note(o) },
		DeleteFunc: func(o any) {
			if key, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
				p.inventory.Drop(key)
			}
		},
	})
	return err
}

// observe notes a renewal of a storenode's or a kubelet's Lease.
func (p *parts) observe(o any) {
	lease, ok := o.(*coordinationv1.Lease)
	if !ok {
		return
	}
	name, ours := strings.CutPrefix(lease.Name, leasePrefix)
	switch {
	case lease.Namespace == corev1.NamespaceNodeLease:
		name = liveness.Kubelet(lease.Name)
	case !ours:
		return
	}
	r := liveness.Renewal{}
	if lease.Spec.HolderIdentity != nil {
		r.Holder = *lease.Spec.HolderIdentity
	}
	if lease.Spec.RenewTime != nil {
		r.Renewed = lease.Spec.RenewTime.Time
	}
	if lease.Spec.LeaseDurationSeconds != nil {
		r.Duration = time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
	}
	p.alive.Observe(name, r)
}

// renewal is the storenode that a Lease is of.
func (p *parts) renewal(_ context.Context, o client.Object) []reconcile.Request {
	node, ours := strings.CutPrefix(o.GetName(), leasePrefix)
	if !ours || o.GetNamespace() != p.options.Namespace {
		return nil
	}
	return requests(node)
}

func (p *parts) shards(changed <-chan event.GenericEvent) error {
	nodes := handler.EnqueueRequestsFromMapFunc(p.shardsOfNode)
	return ctrl.NewControllerManagedBy(p.manager).Named("shard").
		For(&v1alpha1.Shard{}).
		WatchesRawSource(source.Channel(changed, nodes)).
		Watches(&v1alpha1.StoreNode{}, handler.EnqueueRequestsFromMapFunc(p.shardsOfSilent), reports()).
		Watches(&v1alpha1.StoreNode{}, nodes, control.SpecChanges()). // maintenance
		Watches(&v1alpha1.Device{}, handler.EnqueueRequestsFromMapFunc(p.shardsOfDevice), moves()).
		Watches(&v1alpha1.Volume{}, handler.EnqueueRequestsFromMapFunc(p.shardsOfVolume), control.SpecChanges()).
		WithOptions(control.Workers(shardWorkers)).
		Complete(&shard.Reconciler{
			API: p.api, Live: p.manager.GetAPIReader(), Inventory: p.inventory,
			Events: p.manager.GetEventRecorder("shale-operator"), Metrics: p.metrics,
			Log: p.options.Log, Clock: p.options.Clock, ReplaceAfter: p.options.ReplaceAfter,
		})
}

func (p *parts) volumes() error {
	return ctrl.NewControllerManagedBy(p.manager).Named("volume").
		For(&v1alpha1.Volume{}, control.SpecChanges()).
		Watches(&v1alpha1.Shard{}, handler.EnqueueRequestsFromMapFunc(volumeOfShard)).
		Watches(&v1alpha1.Pool{}, handler.EnqueueRequestsFromMapFunc(p.volumesOfPool), control.SpecChanges()).
		Watches(&v1alpha1.Device{}, handler.EnqueueRequestsFromMapFunc(p.volumesOfDevice)).
		WithOptions(control.Workers(volumeWorkers)).
		Complete(&volume.Reconciler{
			API: p.api, Live: p.manager.GetAPIReader(), Inventory: p.inventory,
			Events: p.manager.GetEventRecorder("shale-operator"), Metrics: p.metrics,
		})
}

func (p *parts) pools() error {
	return ctrl.NewControllerManagedBy(p.manager).Named("pool").
		For(&v1alpha1.Pool{}, control.SpecChanges()).
		Watches(&v1alpha1.Device{}, handler.EnqueueRequestsFromMapFunc(poolOfDevice)).
		WithOptions(control.Workers(1)).
		Complete(&pool.Reconciler{API: p.api, Inventory: p.inventory})
}

func (p *parts) snapshots() error {
	return ctrl.NewControllerManagedBy(p.manager).Named("snapshot").
		For(&v1alpha1.Snapshot{}, control.SpecChanges()).
		WithOptions(control.Workers(1)).
		Complete(&snapshot.Reconciler{API: p.api})
}

// reports lets pass StoreNodes that say of others that they are silent.
func reports() builder.Predicates {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*v1alpha1.StoreNode)
		after, ok2 := e.ObjectNew.(*v1alpha1.StoreNode)
		return ok1 && ok2 && !slices.Equal(before.Status.Unreachable, after.Status.Unreachable)
	}})
}

// service is what of a Device's status concerns its Shards.
type service struct {
	ready, stalled bool
	reason         string
}

// moves lets pass Devices that come, go or move, are looked for in vain, or do not answer.
func moves() builder.Predicates {
	of := func(o client.Object) (s service) {
		d, ok := o.(*v1alpha1.Device)
		if !ok {
			return s
		}
		s.stalled = inventory.IsStalled(d)
		if c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			s.ready, s.reason = c.Status == metav1.ConditionTrue, c.Reason
		}
		return s
	}
	return builder.WithPredicates(predicate.Or(
		control.Changed(),
		predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return of(e.ObjectOld) != of(e.ObjectNew) }},
	))
}

func (p *parts) shardsOfNode(ctx context.Context, o client.Object) []reconcile.Request {
	names, err := p.inventory.ShardsOnNode(ctx, o.GetName())
	if err != nil {
		p.options.Log.Error("Could not list the shards of a storenode", "node", o.GetName(), "error", err)
	}
	return requests(names...)
}

// shardsOfSilent are the Shards of the storenodes that this one does not hear.
func (p *parts) shardsOfSilent(ctx context.Context, o client.Object) []reconcile.Request {
	node, ok := o.(*v1alpha1.StoreNode)
	if !ok {
		return nil
	}
	var all []reconcile.Request
	for _, silent := range node.Status.Unreachable {
		all = append(all, p.shardsOfNode(ctx, &v1alpha1.StoreNode{ObjectMeta: named(silent)})...)
	}
	return all
}

func (p *parts) shardsOfDevice(ctx context.Context, o client.Object) []reconcile.Request {
	shards, err := p.inventory.ShardsOnDevice(ctx, o.GetName())
	if err != nil {
		p.options.Log.Error("Could not list the shards of a device", "device", o.GetName(), "error", err)
	}
	return shardRequests(shards)
}

func (p *parts) shardsOfVolume(ctx context.Context, o client.Object) []reconcile.Request {
	shards, err := p.inventory.ShardsOfVolume(ctx, o.GetName())
	if err != nil {
		p.options.Log.Error("Could not list the shards of a volume", "volume", o.GetName(), "error", err)
	}
	return shardRequests(shards)
}

// volumesOfPool are the Volumes that a change of the Pool may find room for.
func (p *parts) volumesOfPool(ctx context.Context, o client.Object) []reconcile.Request {
	return p.waiting(ctx, o.GetName())
}

func (p *parts) volumesOfDevice(ctx context.Context, o client.Object) []reconcile.Request {
	if d, ok := o.(*v1alpha1.Device); ok {
		return p.waiting(ctx, d.Spec.PoolName)
	}
	return nil
}

// waiting are the Volumes of the Pool that wait for room.
func (p *parts) waiting(ctx context.Context, poolName string) []reconcile.Request {
	volumes, err := p.inventory.VolumesOfPool(ctx, poolName)
	if err != nil {
		p.options.Log.Error("Could not list the volumes of a pool", "pool", poolName, "error", err)
	}
	var names []string
	for i := range volumes {
		if lacksRoom(&volumes[i]) {
			names = append(names, volumes[i].Name)
		}
	}
	return requests(names...)
}
