// Package pool says how Pools are: what their Devices have, hold and have promised, and what was selected but refused.
//
// It only observes. What is promised is counted as placement counts it (operator/inventory), so that a person sees the
// numbers that decide. It looks at each change of a Device, and now and then because Shards change what is promised.
package pool

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/inventory"
	"github.com/shale-storage/shale/operator/reconcilers"
)

const (
	// lookAgain bounds how old the sums get.
	lookAgain = 15 * time.Second
	// maxNamed bounds the Devices that a message names.
	maxNamed = 12
)

// Reconciler of Pools. All fields must be given.
type Reconciler struct {
	API       client.Client
	Inventory *inventory.Inventory
}

// Reconcile one Pool.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var pool v1alpha1.Pool
	if err := r.API.Get(ctx, req.NamespacedName, &pool); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	devices, err := r.Inventory.DevicesOfPool(ctx, pool.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	slices.SortFunc(devices, func(a, b v1alpha1.Device) int { return cmp.Compare(a.Name, b.Name) })
	base := pool.DeepCopy()
	refused := append(unreadable(&pool.Spec.DeviceSelector), r.sum(&pool.Status, devices)...)
	pool.Status.ObservedGeneration = pool.Generation
	reconcilers.Set(&pool.Status.Conditions, v1alpha1.ConditionReady, ready(&pool.Status), pool.Generation)
	reconcilers.Set(&pool.Status.Conditions, v1alpha1.ConditionDevicesAccepted, accepted(refused), pool.Generation)
	if err := reconcilers.Patch(ctx, r.API, base, &pool); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: lookAgain}, nil
}

// unreadable says which patterns are none.
func unreadable(s *v1alpha1.DeviceSelector) []string {
	var all []string
	for _, pattern := range slices.Concat(s.Paths, s.Models) {
		if _, err := filepath.Match(pattern, ""); err != nil {
			all = append(all, fmt.Sprintf("pattern %q cannot be read (%v) and selects nothing", pattern, err))
		}
	}
	return all
}

// sum adds up the Devices, and names what was selected and refused.
func (r *Reconciler) sum(status *v1alpha1.PoolStatus, devices []v1alpha1.Device) (refused []string) {
	status.DeviceCount, status.ReadyDevices = 0, 0
	status.CapacityBytes, status.UsedBytes, status.ReservedBytes = 0, 0, 0
	for i := range devices {
		d := &devices[i]
		if c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); !inventory.IsClaimed(d.Name) {
			why := "not looked at yet"
			if c != nil {
				why = c.Reason + ": " + c.Message
			}
			refused = append(refused, fmt.Sprintf("node %s: %s: %s", d.Spec.NodeName, d.Spec.Path, why))
			continue
		}
		status.DeviceCount++
		inService := meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady)
		if !inService || !r.Inventory.Alive(d.Spec.NodeName).Alive {
			continue
		}
		load := r.Inventory.Load(d)
		status.ReadyDevices++
		status.CapacityBytes += d.Status.CapacityBytes
		status.UsedBytes += d.Status.UsedBytes
		status.ReservedBytes += load.Reserved
	}
	status.Capacity, status.Used = v1alpha1.BytesText(status.CapacityBytes), v1alpha1.BytesText(status.UsedBytes)
	status.Reserved = v1alpha1.BytesText(status.ReservedBytes)
	return refused
}

func ready(s *v1alpha1.PoolStatus) reconcilers.Verdict {
	if s.ReadyDevices == 0 {
		return reconcilers.Verdict{
			Reason: v1alpha1.ReasonNoDevices, Message: fmt.Sprintf("None of %d Devices is in service", s.DeviceCount),
		}
	}
	return reconcilers.Verdict{
		OK: true, Reason: v1alpha1.ReasonServing,
		Message: fmt.Sprintf("%d of %d Devices are in service", s.ReadyDevices, s.DeviceCount),
	}
}

func accepted(refused []string) reconcilers.Verdict {
	if len(refused) == 0 {
		return reconcilers.Verdict{OK: true, Reason: v1alpha1.ReasonAllAccepted, Message: "Nothing selected was refused"}
	}
	if more := len(refused) - maxNamed; more > 0 {
		refused = append(refused[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	return reconcilers.Verdict{Reason: v1alpha1.ReasonDevicesRefused, Message: strings.Join(refused, "; ")}
}
