package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// registerRetry is how soon a registration that failed is tried again.
const registerRetry = time.Second

// registration keeps the StoreNode object, by which all others find this storenode: without it, or with a wrong address
// in it, its Replicas are cut off although its Lease is fresh. So one that a person deleted or edited is made right.
type registration struct {
	api client.Client
	// reader reads past the cache, which is not there yet at the first time.
	reader               client.Reader
	clock                clock.WithTicker
	node, address        string
	version, incarnation string
	log                  *slog.Logger
	// made is called after the object was made anew: what else is told in it must be told again.
	made func()
}

// first registers before anything refers to the object, and tries on while the API server is away: a process that ended
// for that would be started more and more seldom, and come late when it is back. What cannot get better is an error.
func (r *registration) first(ctx context.Context) error {
	for failing := false; ; failing = true {
		err := r.register(ctx, true)
		switch {
		case err == nil, ctx.Err() != nil:
			return nil //nolint:nilerr // nobody wants it any more
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsInvalid(err):
			return err
		case !failing:
			r.log.Warn("Could not register, trying on", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-r.clock.After(registerRetry):
		}
	}
}

// Reconcile one StoreNode; only this storenode's own matters.
func (r *registration) Reconcile(ctx context.Context, req ctrl.Request) (reconcile.Result, error) {
	if req.Name != r.node {
		return reconcile.Result{}, nil
	}
	var node v1alpha1.StoreNode
	err := r.api.Get(ctx, req.NamespacedName, &node)
	switch {
	case err == nil && (maps.Equal(node.Spec.Addresses, r.addresses()) || node.DeletionTimestamp != nil):
		return reconcile.Result{}, nil
	case client.IgnoreNotFound(err) != nil:
		return reconcile.Result{}, fmt.Errorf("get storenode %s: %w", r.node, err)
	}
	if err := r.register(ctx, false); err != nil {
		return reconcile.Result{}, err
	}
	r.log.Warn("Registered anew: the StoreNode object was deleted, or its addresses changed", "node", r.node)
	r.made()
	return reconcile.Result{}, nil
}

func (r *registration) addresses() map[string]string {
	return map[string]string{transportTCP: r.address}
}

// register makes the object or brings it in line. A process that starts has not missed anybody yet.
func (r *registration) register(ctx context.Context, starts bool) error {
	node := &v1alpha1.StoreNode{}
	node.Name = r.node
	err := r.reader.Get(ctx, client.ObjectKeyFromObject(node), node)
	switch {
	case apierrors.IsNotFound(err):
		node.Spec.Addresses = r.addresses()
		err = r.api.Create(ctx, node)
	case err == nil:
		node.Spec.Addresses = r.addresses()
		err = r.api.Update(ctx, node)
	}
	if err != nil {
		return fmt.Errorf("register storenode %s: %w", r.node, err)
	}
	base := node.DeepCopy()
	node.Status.Version, node.Status.Incarnation = r.version, r.incarnation
	if starts {
		node.Status.Unreachable = nil
	}
	node.Status.ObservedGeneration = node.Generation
	if err := r.api.Status().Patch(ctx, node, client.MergeFrom(base)); err != nil {
		return fmt.Errorf("patch status of storenode %s: %w", r.node, err)
	}
	return nil
}
