// Package storenode says whether storenodes live, and tells the Shards' reconciler the moment one does not.
//
// Each renewal of a Lease wakes it, and it asks to be woken when the Lease would expire. So there is one timer for each
// storenode, however many Shards are on it, and a failover begins when the Lease ends, not at the next look.
//
// Then it looks whether the whole node is dead (nodes.go): operator/nodedeath decides, operator/evacuation acts.
//
// The objects' times are not used: see operator/liveness.
package storenode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/liveness"
	"github.com/shale-storage/shale/operator/metrics"
	"github.com/shale-storage/shale/operator/nodedeath"
	"github.com/shale-storage/shale/operator/reconcilers"
)

// tick is added to what is left of a Lease, so that it is past.
const tick = time.Millisecond

// retryLook is how soon a node is looked at again of which that failed.
const retryLook = 3 * time.Second

// Reconciler of StoreNodes. All exported fields must be given.
type Reconciler struct {
	API     client.Client
	Alive   *liveness.Tracker
	Metrics *metrics.Metrics
	Log     *slog.Logger
	// Changed hears of each storenode that died or came to life; its Shards must be looked at.
	Changed chan<- event.GenericEvent
	// Nodes looks after dead nodes.
	Nodes *Nodes

	mu sync.Mutex
	// told is what Changed heard last. Bounded by the storenodes there are.
	told map[string]bool
}

// Reconcile one StoreNode.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	state := r.Alive.State(req.Name)
	// First of all the Shards: their I/O waits.
	r.announce(req.Name, state)
	var node v1alpha1.StoreNode
	if err := r.API.Get(ctx, req.NamespacedName, &node); err != nil {
		if client.IgnoreNotFound(err) == nil {
			r.Metrics.Down.Put(req.Name, false)
		}
		return reconcile.Result{RequeueAfter: until(state)}, client.IgnoreNotFound(err)
	}
	// It counts as alive, and nobody has seen it renew: what a predecessor said is believed until that is known.
	unsure := state.Alive && !state.Renewed
	down := !state.Alive || unsure && meta.IsStatusConditionFalse(node.Status.Conditions, v1alpha1.ConditionReady)
	r.Metrics.Down.Put(req.Name, down)
	base := node.DeepCopy()
	set := func(kind string, v reconcilers.Verdict) {
		reconcilers.Set(&node.Status.Conditions, kind, v, node.Generation)
	}
	// ObservedGeneration is the storenode's own to write.
	if !unsure {
		set(v1alpha1.ConditionReady, verdict(&node, state))
	}
	set(v1alpha1.ConditionMaintenance, maintenance(&node))
	again := until(state)
	death, failed := r.Nodes.look(ctx, &node)
	if death.Again > 0 && (again == 0 || death.Again < again) {
		again = death.Again
	}
	if !unsure {
		tell(&node, death, set)
	}
	if err := reconcilers.Patch(ctx, r.API, base, &node); err != nil {
		return reconcile.Result{}, errors.Join(failed, err)
	}
	if failed != nil {
		// Returned, it would be tried again after longer and longer, while pods wait.
		r.Log.Warn("Could not look after a node", "node", node.Name, "error", failed)
		if again == 0 || again > retryLook {
			again = retryLook
		}
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// tell sets the condition NodeAlive. The message is of the moment in which it became so.
func tell(node *v1alpha1.StoreNode, v nodedeath.Verdict, set func(string, reconcilers.Verdict)) {
	is := meta.FindStatusCondition(node.Status.Conditions, v1alpha1.ConditionNodeAlive)
	message := v.Message
	if is != nil && is.Reason == v.Reason {
		message = is.Message
	}
	set(v1alpha1.ConditionNodeAlive, reconcilers.Verdict{OK: !v.Dead, Reason: v.Reason, Message: message})
}

func maintenance(node *v1alpha1.StoreNode) reconcilers.Verdict {
	if node.Spec.Maintenance == "" {
		return reconcilers.Verdict{Reason: v1alpha1.ReasonNotAskedFor}
	}
	return reconcilers.Verdict{
		OK: true, Reason: v1alpha1.ReasonAskedFor,
		Message: node.Spec.Maintenance + ": its replicas are not replaced, its volumes not detached",
	}
}

func until(s liveness.State) time.Duration {
	if !s.Alive {
		return 0
	}
	return s.Left + tick
}

// announce tells of a change, once.
func (r *Reconciler) announce(name string, state liveness.State) {
	r.mu.Lock()
	before, known := r.told[name]
	if r.told == nil {
		r.told = map[string]bool{}
	}
	r.told[name] = state.Alive
	r.mu.Unlock()
	if known && before == state.Alive {
		return
	}
	if !state.Alive {
		r.Log.Warn("Lease of storenode expired", "node", name, "silentFor", state.Age.String())
	} else if known {
		r.Log.Info("Storenode is back", "node", name)
	}
	r.Changed <- event.GenericEvent{Object: &v1alpha1.StoreNode{ObjectMeta: metav1.ObjectMeta{Name: name}}}
}

func verdict(node *v1alpha1.StoreNode, s liveness.State) reconcilers.Verdict {
	switch {
	case s.Alive && s.Heard:
		return reconcilers.Verdict{OK: true, Reason: v1alpha1.ReasonAlive, Message: "It renews its lease"}
	case !s.Heard:
		return reconcilers.Verdict{
			Reason: v1alpha1.ReasonNoLease, Message: fmt.Sprintf("storenode %s has no lease in Shale's namespace", node.Name),
		}
	}
	return reconcilers.Verdict{
		Reason: v1alpha1.ReasonLeaseExpired, Message: fmt.Sprintf("storenode %s does not renew its lease", node.Name),
	}
}
