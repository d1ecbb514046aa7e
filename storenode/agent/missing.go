package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
)

// release is a Device that is being taken out of service at path.
type release struct {
	path  string
	ended chan error
}

// releaseGone takes Devices out of service that are not there any more, so that one that is plugged in again, under
// whatever name, is taken for what it is, and not for a copy of what can do nothing. What was asked of one may never
// end; so it is waited for like an opening, and until it has ended nothing else of that UUID is opened.
func (r *pools) releaseGone() {
	for id := range r.releases {
		r.released(id, 0)
	}
	for path, s := range r.served {
		if r.opener.IsThere(s.id) {
			continue
		}
		r.log.Error("Device is gone while it was in service", "path", path, "device", s.id.String())
		r.report.gone(s.id)
		delete(r.served, path)
		r.places.remove(s.id)
		ended := make(chan error, 1)
		r.releases[s.id] = release{path, ended}
		go func() { ended <- r.opener.Release(s.id) }()
		r.released(s.id, r.patience)
	}
}

// released waits for the end of a release.
func (r *pools) released(id ident.UUID, patience time.Duration) {
	err, ok := await(r.report.clock, r.releases[id].ended, patience)
	if !ok {
		return
	}
	r.log.Info("Released device", "path", r.releases[id].path, "device", id.String(), "error", err)
	delete(r.releases, id)
}

func (r *pools) isReleasing(id ident.UUID) bool {
	_, releasing := r.releases[id]
	return releasing
}

// tellMissing says of the Pool's Devices that were last here and are not in service that they are missing: an SSD that
// did not come back with its machine, or that cannot be opened; or that they are being opened. What an earlier process
// said of them would stand otherwise, and the operator would wait for a Primary that is nowhere.
func (r *pools) tellMissing(ctx context.Context, pool string, refused []candidate) error {
	var list v1alpha1.DeviceList
	if err := r.api.List(ctx, &list); err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	var served []string
	for _, s := range r.served {
		served = append(served, deviceName(s.id))
	}
	var errs []error
	for i := range list.Items {
		d := &list.Items[i]
		if d.Spec.NodeName != r.node {
			r.report.elsewhere(d.Name)
		}
		ours := strings.HasPrefix(d.Name, devicePrefix) && d.Spec.NodeName == r.node && d.Spec.PoolName == pool
		if ours && !slices.Contains(served, d.Name) {
			reason, why := r.whyMissing(d, refused)
			errs = append(errs, r.report.missing(ctx, d.Name, reason, why))
		}
	}
	return errors.Join(errs...)
}

// whyMissing says where the Device was looked for, and what was found there.
func (r *pools) whyMissing(d *v1alpha1.Device, refused []candidate) (reason, message string) {
	for path, a := range r.attempts {
		if a.serves && deviceName(a.id) == d.Name {
			return v1alpha1.ReasonOpening, fmt.Sprintf("at %s: %v", path, errOpening)
		}
	}
	spec := &d.Spec
	text := fmt.Sprintf("the device was last at %s on node %s, and the storenode there does not find it; "+
		"it is in service again within a minute of its return", spec.Path, spec.NodeName)
	for _, c := range refused {
		if c.path == spec.Path {
			text += "; what is there now: " + c.message
		}
	}
	return v1alpha1.ReasonMissing, text
}

// missing writes that a Device is not in service, nor known to hold anything.
func (r *report) missing(ctx context.Context, name, reason, why string) error {
	return r.patchDevice(ctx, name, func(d *v1alpha1.Device) {
		if d.Spec.NodeName != r.node {
			return // it has just been found elsewhere
		}
		d.Status.ObservedGeneration = d.Generation
		meta.SetStatusCondition(&d.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, ObservedGeneration: d.Generation,
			Reason: reason, Message: why,
		})
	})
}

// rival is a storenode's Lease as it was seen at first, and when.
type rival struct {
	renewed metav1.MicroTime
	at      time.Time
}

// servedElsewhere says why a Device of ours must not be served yet: its object says that it is in service on another
// node, and the storenode there renews its Lease. Then this is a copy, or the SSD was pulled there a moment ago and
// that is not known yet. Served in both places, one without the newest writes would be taken for one that has them. No
// clocks are compared: a Lease that has stood still for its duration is not renewed.
func (r *pools) servedElsewhere(ctx context.Context, found Found) (reason, message string) {
	var device v1alpha1.Device
	err := r.api.Get(ctx, client.ObjectKey{Name: deviceName(found.UUID)}, &device)
	node := device.Spec.NodeName
	if found.Content != ContentOurs || err != nil || node == r.node ||
		!meta.IsStatusConditionTrue(device.Status.Conditions, v1alpha1.ConditionReady) {
		return "", ""
	}
	var lease coordinationv1.Lease
	err = r.api.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: leasePrefix + node}, &lease)
	if apierrors.IsNotFound(err) || err == nil && lease.Spec.RenewTime == nil {
		return "", ""
	}
	now := r.report.clock.Now()
	seen, known := r.rivals[node]
	switch {
	case err == nil && (!known || !seen.renewed.Equal(lease.Spec.RenewTime)):
		r.rivals[node] = rival{*lease.Spec.RenewTime, now}
	case err == nil && now.Sub(seen.at) > leaseDuration:
		return "", ""
	}
	return v1alpha1.ReasonForeignData, fmt.Sprintf("device %s is in service on node %s, so what is here may be a copy, "+
		"and is left untouched; if it was moved, it is in service here once it is known to be gone there", device.Name, node)
}

// gone keeps what was last told of a Device's Replicas, as failed: they still are on it, wherever it is, so their
// entries must not end, which would say that their space was given back.
func (r *report) gone(device ident.UUID) {
	kept := map[ident.ReplicaKey]bool{}
	for _, s := range r.host.Statuses() {
		if s.Device == device {
			kept[s.Key] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, t := range r.told {
		for _, e := range t.entries {
			key := ident.ReplicaKey{Shard: id, Replica: ident.ReplicaID(e.ID)}
			if !kept[key] {
				continue
			}
			r.away[key] = away{deviceName(device), v1alpha1.ShardReplicaStatus{
				ID: e.ID, State: v1alpha1.ReplicaFailed, Epoch: e.Epoch, UsedBytes: e.UsedBytes, PowerLost: e.PowerLost,
				Incarnation: e.Incarnation, Message: "its device is gone from the node",
			}}
		}
	}
}

// elsewhere forgets what was kept of a Device that another node has by now: that one tells of it.
func (r *report) elsewhere(device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.away, func(_ ident.ReplicaKey, a away) bool { return a.device == device })
}
