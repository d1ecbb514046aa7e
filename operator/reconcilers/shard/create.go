package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/failover"
	"github.com/shale-storage/shale/operator/placement"
)

// create brings a Shard of Epoch 0 into service once all its Replicas are Created, and moves those that will not be.
func (r *Reconciler) create(ctx context.Context, s *scope) error {
	if s.volume == nil || !s.volume.DeletionTimestamp.IsZero() {
		return nil // it is about to be deleted
	}
	var refused, kept []int64
	created := 0
	for _, replica := range s.seen.Replicas {
		report := s.reports[replica.ID]
		unfit := replica.Failed || replica.Gone || !s.alive[replica.Node].Alive
		s.late[replica.ID] = r.isLate(s, replica.ID, unfit)
		switch {
		case unfit, s.late[replica.ID]:
			refused = append(refused, replica.ID)
			continue
		case report != nil:
			created++
		}
		kept = append(kept, replica.ID)
	}
	missing := s.seen.Wanted - len(kept)
	switch {
	case missing > 0:
		return r.move(ctx, s, refused, kept)
	case created < len(kept):
		return nil
	}
	return r.activate(ctx, s, refused, kept)
}

// isLate reports whether nothing is told of a Replica that should have been made by now, of one that could be. Its
// Device may hang, and the Volume is waited for.
func (r *Reconciler) isLate(s *scope, id int64, unfit bool) bool {
	due := !unfit && s.reports[id] == nil
	silent := r.since.age(s.shard.Name, fmt.Sprintf("replica %d silent", id), due, r.Clock.Now())
	if silent > 0 && silent < createWithin {
		s.lookAgain(createWithin - silent + tick)
	}
	return silent >= createWithin
}

// move replaces Replicas that were refused. Nothing was written to them, so they are simply taken off.
func (r *Reconciler) move(ctx context.Context, s *scope, refused, kept []int64) error {
	placed, err := r.place(ctx, s, s.seen.Wanted-len(kept), kept)
	if no, ok := errors.AsType[*placement.NoRoomError](err); ok {
		s.noRoom = no.Message
		s.lookAgain(retryRoom)
		return nil
	}
	if err != nil {
		return err
	}
	next := s.shard.DeepCopy()
	for _, id := range refused {
		s.displace(next, id, r.Clock.Now())
	}
	next.Spec.Replicas = append(next.Spec.Replicas, placed...)
	next.Spec.NextReplicaID += int64(len(placed))
	if err := r.write(ctx, s, next, "move replicas of"); err != nil {
		return err
	}
	r.Log.Info("Moved replicas that were refused", "shard", next.Name, "refused", refused)
	r.Events.Eventf(next, nil, corev1.EventTypeWarning, "ReplicaRefused", "Place",
		"replicas %v were refused, or not made in time, or their storenode is down; placed elsewhere", refused)
	for _, id := range refused {
		r.since.age(next.Name, fmt.Sprintf("replica %d silent", id), false, r.Clock.Now())
	}
	return nil
}

// activate writes Epoch 1. The first Replica is meant to be Primary. Refused ones that are not replaced, because fewer
// are wanted by now, are taken off in the same update: in sync is only who has what clients are told.
func (r *Reconciler) activate(ctx context.Context, s *scope, refused, kept []int64) error {
	next := s.shard.DeepCopy()
	for _, id := range refused {
		s.displace(next, id, r.Clock.Now())
	}
	m := failover.Membership{Epoch: 1, Primary: kept[0], InSync: slices.Clone(kept)}
	slices.Sort(m.InSync)
	next.Spec.Membership = record(m)
	if err := r.write(ctx, s, next, "activate"); err != nil {
		return err
	}
	r.Log.Info("Activated", "shard", next.Name, "primary", m.Primary, "inSync", m.InSync)
	r.Events.Eventf(next, nil, corev1.EventTypeNormal, "Activated", "Create",
		"%s", fmt.Sprintf("all %d replicas are created, replica %d is primary", len(m.InSync), m.Primary))
	return nil
}

// refusals are reasons, by Device, why the Shard's next Replica cannot be there: a storenode refused an earlier one, or
// holds one that was displaced, or may yet make it.
func (s *scope) refusals(now time.Time) map[string]string {
	why := map[string]string{}
	for _, replica := range s.shard.Spec.Replicas {
		why[replica.DeviceName] = "a replica of the shard is on it"
		if report := s.reports[replica.ID]; report != nil && report.State == v1alpha1.ReplicaFailed {
			why[replica.DeviceName] = fmt.Sprintf("refused replica %d: %s", report.ID, report.Message)
		}
	}
	for _, d := range displaced(s.shard) {
		report := s.reports[d.ID]
		switch {
		case report == nil && s.mayCome(&d, now):
			why[d.DeviceName] = fmt.Sprintf("replica %d was not made on it in time, and may be yet", d.ID)
		case report == nil:
		case report.State == v1alpha1.ReplicaFailed:
			why[d.DeviceName] = fmt.Sprintf("replica %d was taken off it: %s", d.ID, report.Message)
		default:
			why[d.DeviceName] = "an earlier replica of the shard is still on it"
		}
	}
	return why
}
