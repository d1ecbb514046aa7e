package inventory

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/liveness"
	"github.com/shale-storage/shale/operator/placement"
)

const (
	// claimedPrefix begins the names of Devices that hold Replicas; others are candidates that were refused.
	claimedPrefix = "dev-"
	// ledgerFor is how long a place given away counts without being seen in the cache. A write that takes longer has
	// failed.
	ledgerFor = time.Minute
	// fullPercent is 100: a Pool that promises no more than there is.
	fullPercent = 100
)

// Inventory gathers. Use New.
type Inventory struct {
	api   client.Reader
	alive *liveness.Tracker
	clock clock.PassiveClock

	// pass is held for a Pass.
	pass sync.Mutex
	// ledger is guarded by pass. Bounded by what is placed within ledgerFor.
	ledger map[ledgerKey]ledgerEntry
}

// ledgerKey is one Replica. The UID is not known yet when a Shard is made, but names of Volumes are not reused within
// a minute by anybody who draws them.
type ledgerKey struct {
	shard   string
	replica int64
}

type ledgerEntry struct {
	device  string
	size    int64
	primary bool
	at      time.Time
}

// New makes an Inventory that reads api, which must be the cache that was given to Index.
func New(api client.Reader, alive *liveness.Tracker, c clock.PassiveClock) *Inventory {
	return &Inventory{api: api, alive: alive, clock: c, ledger: map[ledgerKey]ledgerEntry{}}
}

// IsClaimed reports whether the Device object is of a Device that holds Replicas, not of a refused candidate.
func IsClaimed(device string) bool { return strings.HasPrefix(device, claimedPrefix) }

// Promisable is what a Device of the Pool may promise in all.
func Promisable(capacity int64, overcommitPercent int32) int64 {
	if overcommitPercent <= 0 {
		overcommitPercent = fullPercent
	}
	const most = 1 << 62
	return int64(min(float64(capacity)/fullPercent*float64(overcommitPercent), most))
}

// Load is what is on one Device.
type Load struct {
	// Reserved bytes, as the package comment defines them.
	Reserved int64
	// Primaries on it, or meant to be.
	Primaries int
}

// Load of one Device.
func (i *Inventory) Load(ctx context.Context, d *v1alpha1.Device) (Load, error) {
	i.pass.Lock()
	defer i.pass.Unlock()
	if err := i.sweepLocked(ctx); err != nil {
		return Load{}, err
	}
	return i.loadLocked(ctx, d)
}

func (i *Inventory) loadLocked(ctx context.Context, d *v1alpha1.Device) (Load, error) {
	shards, err := i.ShardsOnDevice(ctx, d.Name)
	if err != nil {
		return Load{}, err
	}
	var planned int64
	var load Load
	for j := range shards {
		s := &shards[j].Spec
		for at, r := range s.Replicas {
			if r.DeviceName != d.Name {
				continue
			}
			planned += s.SizeBytes
			meant := s.Membership.Epoch == 0 && at == 0
			if meant || s.Membership.Epoch > 0 && s.Membership.Primary == r.ID {
				load.Primaries++
			}
		}
	}
	for _, e := range i.ledger {
		if e.device == d.Name {
			planned += e.size
			if e.primary {
				load.Primaries++
			}
		}
	}
	load.Reserved = max(planned, d.Status.ReservedBytes)
	return load, nil
}

// Alive is the liveness of a storenode.
func (i *Inventory) Alive(node string) liveness.State { return i.alive.State(node) }

// Domains tells the failure domain of nodes: the value of the label, or the node itself without one.
func (i *Inventory) Domains(ctx context.Context, label string) (func(node string) string, error) {
	if label == "" || label == corev1.LabelHostname {
		return func(node string) string { return "node/" + node }, nil
	}
	var nodes corev1.NodeList
	if err := i.api.List(ctx, &nodes, client.HasLabels{label}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	value := map[string]string{}
	for j := range nodes.Items {
		value[nodes.Items[j].Name] = nodes.Items[j].Labels[label]
	}
	return func(node string) string {
		if v, labelled := value[node]; labelled {
			return "label/" + v
		}
		return "node/" + node
	}, nil
}

// candidate is a Device as placement sees it.
func (i *Inventory) candidate(ctx context.Context, pool *v1alpha1.Pool, d *v1alpha1.Device) (placement.Device, error) {
	load, err := i.loadLocked(ctx, d)
	if err != nil {
		return placement.Device{}, err
	}
	return placement.Device{
		Name: d.Name, Node: d.Spec.NodeName, Primaries: load.Primaries,
		Free:    max(Promisable(d.Status.CapacityBytes, pool.Spec.OvercommitPercent)-load.Reserved, 0),
		Refusal: i.refusal(d),
	}, nil
}

// refusal says why the Device takes no Replica now.
func (i *Inventory) refusal(d *v1alpha1.Device) string {
	ready := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case !d.DeletionTimestamp.IsZero():
		return "it is being deleted"
	case !i.alive.State(d.Spec.NodeName).Alive:
		return "its storenode is down"
	case ready == nil:
		return "its storenode has not said anything of it yet"
	case ready.Status != metav1.ConditionTrue:
		return fmt.Sprintf("not in service (%s): %s", ready.Reason, ready.Message)
	}
	return ""
}
