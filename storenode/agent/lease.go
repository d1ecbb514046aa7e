package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

const (
	// leasePrefix and the node's name make the name of the Lease.
	leasePrefix = "storenode-"
	// leaseRenew and leaseDuration: the operator takes a storenode for dead when its Lease has not been renewed for
	// leaseDuration. A false alarm costs a promotion, never data: fencing is the data plane's.
	leaseRenew    = time.Second
	leaseDuration = 4 * time.Second
	// lookAgainEvery is how often what was told is compared with what the API server has: it may have been set back.
	lookAgainEvery = 15 * time.Second
)

// lease says in a Lease that this storenode lives.
type lease struct {
	api       client.Client
	reader    client.Reader
	clock     clock.WithTicker
	namespace string
	node      string
	// holder is the incarnation of this process.
	holder string
	log    *slog.Logger
	// have is the Lease as last written, so that a renewal is one request.
	have *coordinationv1.Lease
}

// run renews until ctx ends. A failed renewal is tried again at the next tick: nothing else depends on it here.
func (l *lease) run(ctx context.Context) error {
	tick := l.clock.NewTicker(leaseRenew)
	defer tick.Stop()
	for failing := false; ; {
		err := l.renew(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			l.log.Warn("Could not renew the lease, trying on", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
		}
	}
}

func (l *lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseDuration)
	defer cancel()
	if l.have == nil {
		return l.acquire(ctx)
	}
	next := l.have.DeepCopy()
	next.Spec.RenewTime = &metav1.MicroTime{Time: l.clock.Now()}
	if err := l.api.Update(ctx, next); err != nil {
		l.have = nil
		return fmt.Errorf("renew lease %s: %w", next.Name, err)
	}
	l.have = next
	return nil
}

// acquire takes over whatever Lease there is: the name is this node's, and a former process of the node cannot have
// the Devices any more when this one has them.
func (l *lease) acquire(ctx context.Context) error {
	want := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: leasePrefix + l.node}}
	err := l.reader.Get(ctx, client.ObjectKeyFromObject(want), want)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("get lease %s: %w", want.Name, err)
	}
	now := metav1.MicroTime{Time: l.clock.Now()}
	want.Spec = coordinationv1.LeaseSpec{
		HolderIdentity:       ptr.To(l.holder),
		LeaseDurationSeconds: ptr.To(int32(leaseDuration / time.Second)),
		AcquireTime:          &now,
		RenewTime:            &now,
	}
	write := l.api.Update
	if missing {
		write = func(ctx context.Context, o client.Object, _ ...client.UpdateOption) error {
			return l.api.Create(ctx, o)
		}
	}
	if err := write(ctx, want); err != nil {
		return fmt.Errorf("acquire lease %s: %w", want.Name, err)
	}
	l.have = want
	return nil
}

// silence keeps whom this storenode, as a Backup, has not heard from, and writes it to the StoreNode's status.
type silence struct {
	api client.Client
	// reader reads past the cache: that may not have what was written a moment ago, and a change back would be taken for
	// none. The operator would go on promoting away from whoever is heard again.
	reader client.Reader
	clock  clock.Clock
	node   string
	// nodes names the storenodes behind addresses.
	nodes func(ctx context.Context, addresses []string) []string
	log   *slog.Logger

	mu        sync.Mutex
	addresses []string
	wake      chan struct{}
}

func (s *silence) set(addresses []string) {
	s.mu.Lock()
	s.addresses = slices.Clone(addresses)
	s.mu.Unlock()
	s.again()
}

// again has all written that is not there.
func (s *silence) again() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes each change, and sees now and then that it is still there; a failed write is tried again after retry.
func (s *silence) run(ctx context.Context) error {
	const retry = 500 * time.Millisecond
	for {
		wait := lookAgainEvery
		s.mu.Lock()
		addresses := s.addresses
		s.mu.Unlock()
		if err := s.write(ctx, addresses); err != nil && ctx.Err() == nil {
			s.log.Warn("Could not report unreachable storenodes, trying again", "error", err)
			wait = retry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-s.clock.After(wait):
		}
	}
}

func (s *silence) write(ctx context.Context, addresses []string) error {
	var node v1alpha1.StoreNode
	if err := s.reader.Get(ctx, client.ObjectKey{Name: s.node}, &node); err != nil {
		return fmt.Errorf("get storenode %s: %w", s.node, err)
	}
	names := s.nodes(ctx, addresses)
	if slices.Equal(names, node.Status.Unreachable) {
		return nil
	}
	base := node.DeepCopy()
	node.Status.Unreachable = names
	if err := s.api.Status().Patch(ctx, &node, client.MergeFrom(base)); err != nil {
		return fmt.Errorf("patch status of storenode %s: %w", s.node, err)
	}
	s.log.Info("Reported unreachable storenodes", "unreachable", names)
	return nil
}
