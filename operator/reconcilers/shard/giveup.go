package shard

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/failover"
	"github.com/shale-storage/shale/operator/liveness"
)

// isAsked reports whether a person asks to give Replicas up.
func isAsked(shard *v1alpha1.Shard) bool {
	_, asked := shard.Annotations[v1alpha1.GiveUpAnnotation]
	return asked
}

// giveUp does what a person asks, or refuses. In either case the request is taken off in the same update, so it can hit
// no later situation; a crash before it leaves the request, and it is looked at anew.
func (r *Reconciler) giveUp(ctx context.Context, s *scope) error {
	request, err := failover.ParseRequest(s.shard.Annotations[v1alpha1.GiveUpAnnotation],
		s.shard.Annotations[v1alpha1.ServeIncompleteAnnotation])
	given := failover.Given{}
	if err != nil {
		given.Refusal = err.Error()
	} else {
		given = failover.GiveUp(&s.seen, request)
	}
	next := s.shard.DeepCopy()
	delete(next.Annotations, v1alpha1.GiveUpAnnotation)
	delete(next.Annotations, v1alpha1.ServeIncompleteAnnotation)
	if given.Refusal != "" {
		return r.refuse(ctx, s, next, given.Refusal)
	}
	for _, up := range given.Up {
		if err := r.letGo(s, next, up.ID); err != nil {
			return err
		}
	}
	next.Spec.Membership = record(given.Next)
	if err := r.write(ctx, s, next, "give up replicas of"); err != nil {
		return err
	}
	r.Metrics.GivenUp.Add(float64(len(given.Up)))
	r.Log.Warn("Gave replicas up by a person's command", "shard", next.Name, "epoch", given.Next.Epoch,
		"primary", given.Next.Primary, "inSync", given.Next.InSync, "cause", given.Message)
	r.note(next, "ReplicasGivenUp", given.Message)
	return nil
}

// refuse takes the request off and says why it is not done. What else there is to do is done in the pass this wakes.
func (r *Reconciler) refuse(ctx context.Context, s *scope, next *v1alpha1.Shard, why string) error {
	asked := s.shard.Annotations[v1alpha1.GiveUpAnnotation]
	if err := r.write(ctx, s, next, "refuse to give up replicas of"); err != nil {
		return err
	}
	s.consider()
	r.Log.Info("Refused to give replicas up", "shard", next.Name, "asked", asked, "cause", why)
	r.note(next, "GiveUpRefused", "nothing was given up: "+why)
	return nil
}

// note tells what became of a request. What a person wrote may be in it, of any length.
func (r *Reconciler) note(shard *v1alpha1.Shard, reason, text string) {
	r.Events.Eventf(shard, nil, corev1.EventTypeWarning, reason, "GiveUp", "%s", v1alpha1.Brief(text, v1alpha1.MaxNote))
}

// letGo takes a Replica off the list for ever; its storenode keeps what it has for people, until it is off GivenUp too.
func (r *Reconciler) letGo(s *scope, next *v1alpha1.Shard, id int64) error {
	for _, replica := range next.Spec.Replicas {
		if replica.ID != id {
			continue
		}
		err := next.AddGivenUp(v1alpha1.GivenUpReplica{
			ID: id, DeviceName: replica.DeviceName, NodeName: replica.NodeName,
			Epoch: s.seen.Epoch, Since: metav1.NewTime(r.Clock.Now()),
		})
		if err != nil {
			return fmt.Errorf("note replica %d of shard %s as given up: %w", id, next.Name, err)
		}
	}
	s.displace(next, id, r.Clock.Now())
	return nil
}

// consider takes the decision about the Primary, and what is lost if there is none.
func (s *scope) consider() {
	s.decision = failover.Decide(&s.seen)
	s.loss, s.losing = failover.Losing(&s.seen)
}

// looked is how long after the end of a Lease what NodeAlive says is of this silence: the host has been asked by then.
const looked = 5 * time.Second

// hostSign is a sign of life of the node of a storenode that is silent, or a doubt, empty if there is neither.
func hostSign(node *v1alpha1.StoreNode, state liveness.State) string {
	c := meta.FindStatusCondition(node.Status.Conditions, v1alpha1.ConditionNodeAlive)
	switch {
	case node.Name == "":
		return "" // a person deleted it, so it is not expected back
	case c == nil || state.DeadFor < looked:
		return v1alpha1.ReasonSuspected
	}
	switch c.Reason {
	case v1alpha1.ReasonNodeDead, v1alpha1.ReasonInMaintenance, v1alpha1.ReasonTooManySilent:
		return ""
	case v1alpha1.ReasonNoLease:
		if !state.Heard { // else it is from before it was heard of
			return ""
		}
	}
	return c.Reason
}

// content is how new what the Replica has is.
func (s *scope) content(id int64) failover.Content {
	for _, c := range s.shard.Status.Contents {
		if c.ID != id {
			continue
		}
		content := failover.Content{Epoch: c.Epoch, Incomplete: c.Incomplete || s.rebuilds(id)}
		if c.OutSince != nil {
			content.Until = c.OutSince.Time
		}
		return content
	}
	return failover.Content{Incomplete: true}
}

func (s *scope) rebuilds(id int64) bool {
	report := s.reports[id]
	return report != nil && report.State == v1alpha1.ReplicaRebuilding
}

// contents are what is known now of how new each Replica is. What a Replica reports as its Epoch says nothing about
// that: it learns Epochs without the data.
func (s *scope) contents(now metav1.Time) []v1alpha1.ReplicaContent {
	var all []v1alpha1.ReplicaContent
	m := s.shard.Spec.Membership
	if m.Epoch == 0 {
		return nil
	}
	for _, replica := range s.shard.Spec.Replicas {
		c := v1alpha1.ReplicaContent{ID: replica.ID, Incomplete: true}
		for _, known := range s.shard.Status.Contents {
			if known.ID == replica.ID {
				c = known
			}
		}
		switch {
		case slices.Contains(m.InSync, replica.ID):
			c = v1alpha1.ReplicaContent{ID: replica.ID, Epoch: m.Epoch}
		case c.OutSince == nil:
			c.OutSince = &now
			fallthrough
		default:
			c.Incomplete = c.Incomplete || s.rebuilds(replica.ID)
		}
		all = append(all, c)
	}
	return all
}
