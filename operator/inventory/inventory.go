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
	tally *tally
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

// New makes an Inventory that reads api, which must be the cache that was given to Index. It must be told of all Shards
// by Note and Drop.
func New(api client.Reader, alive *liveness.Tracker, c clock.PassiveClock) *Inventory {
	return &Inventory{api: api, tally: newTally(), alive: alive, clock: c, ledger: map[ledgerKey]ledgerEntry{}}
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

	replicas int
}

// Load of one Device.
func (i *Inventory) Load(d *v1alpha1.Device) Load {
	i.pass.Lock()
	defer i.pass.Unlock()
	i.sweepLocked()
	return i.loadLocked(d)
}

func (i *Inventory) loadLocked(d *v1alpha1.Device) Load {
	load := i.tally.load(d.Name)
	for _, e := range i.ledger {
		if e.device == d.Name {
			load.Reserved += e.size
			if e.primary {
				load.Primaries++
			}
		}
	}
	load.Reserved = max(load.Reserved, d.Status.ReservedBytes)
	return load
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
func (i *Inventory) candidate(pool *v1alpha1.Pool, d *v1alpha1.Device) placement.Device {
	load := i.loadLocked(d)
	return placement.Device{
		Name: d.Name, Node: d.Spec.NodeName, Primaries: load.Primaries,
		Free:    max(Promisable(d.Status.CapacityBytes, pool.Spec.OvercommitPercent)-load.Reserved, 0),
		Refusal: i.refusal(d),
	}
}

// refusal says why the Device takes no Replica now.
func (i *Inventory) refusal(d *v1alpha1.Device) string {
	ready := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady)
	sick := sick(d)
	switch {
	case !d.DeletionTimestamp.IsZero():
		return "it is being deleted"
	case !i.alive.State(d.Spec.NodeName).Alive:
		return "its storenode is down"
	case ready == nil:
		return "its storenode has not said anything of it yet"
	case ready.Status != metav1.ConditionTrue:
		return fmt.Sprintf("not in service (%s): %s", ready.Reason, ready.Message)
	case sick != nil && (sick.Reason == v1alpha1.ReasonStalled || sick.Reason == v1alpha1.ReasonFull):
		return fmt.Sprintf("not healthy (%s): %s", sick.Reason, sick.Message)
	}
	return ""
}

// sick is what is wrong with a Device, nil if nothing is. It may be in service all the same.
func sick(d *v1alpha1.Device) *metav1.Condition {
	c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionHealthy)
	if c == nil || c.Status != metav1.ConditionFalse {
		return nil
	}
	return c
}

// IsStalled reports whether the Device has work and finishes none of it.
func IsStalled(d *v1alpha1.Device) bool { return isSick(d, v1alpha1.ReasonStalled) }

// IsFull reports whether the Device has no space left for what is not there yet.
func IsFull(d *v1alpha1.Device) bool { return isSick(d, v1alpha1.ReasonFull) }

func isSick(d *v1alpha1.Device, reason string) bool {
	sick := sick(d)
	return sick != nil && sick.Reason == reason
}

// IsMissing says why nothing on the Device can be had now, if its storenode says so: it is not where it was, or its
// opening takes long.
func IsMissing(d *v1alpha1.Device) (why string, is bool) {
	c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady)
	if c == nil || c.Status != metav1.ConditionFalse {
		return "", false
	}
	return c.Message, c.Reason == v1alpha1.ReasonMissing || c.Reason == v1alpha1.ReasonOpening
}
