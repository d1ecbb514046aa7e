package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
)

const (
	// proposalWorkers bound how many compare-and-swaps are under way at once.
	proposalWorkers = 8
	// proposalTimeout bounds one try, so that a hanging API server does not hold a worker.
	proposalTimeout = 3 * time.Second

	proposalRetryFirst = 50 * time.Millisecond
	proposalRetryLast  = 2 * time.Second
)

// errUndecided says that a proposal must be tried again.
var errUndecided = errors.New("proposal is undecided")

// proposals carries next Records to Shard objects. At most one a Shard is kept: a later one replaces an earlier one,
// which is safe because the compare-and-swap decides.
type proposals struct {
	// api reads and writes past the cache: a compare-and-swap on stale data would only lose time.
	api    client.Client
	reader client.Reader
	// name finds the Shard object.
	name    func(ident.ShardID) (string, bool)
	resolve func(*v1alpha1.ShardSpec) (membership.Record, error)
	decided func(ident.ShardID, membership.Record)
	log     *slog.Logger

	queue workqueue.TypedRateLimitingInterface[ident.ShardID]

	mu sync.Mutex
	// next is the newest proposal of a Shard; bounded by the Shards that have a Primary here.
	next map[ident.ShardID]membership.Record
}

// init makes the queue; the other fields are given.
func (p *proposals) init() *proposals {
	p.next = map[ident.ShardID]membership.Record{}
	p.queue = workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[ident.ShardID](proposalRetryFirst, proposalRetryLast))
	return p
}

// put keeps the proposal and wakes a worker. Never blocks.
func (p *proposals) put(shard ident.ShardID, next membership.Record) {
	p.mu.Lock()
	p.next[shard] = next
	p.mu.Unlock()
	p.queue.Add(shard)
}

// run works until ctx ends.
func (p *proposals) run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range proposalWorkers {
		workers.Go(func() {
			for p.work(ctx) {
			}
		})
	}
	<-ctx.Done()
	p.queue.ShutDown()
	workers.Wait()
	return nil
}

func (p *proposals) work(ctx context.Context) bool {
	shard, shutdown := p.queue.Get()
	if shutdown {
		return false
	}
	defer p.queue.Done(shard)
	if err := p.try(ctx, shard); err != nil {
		p.log.Warn("Could not propose membership, trying again", "shard", shard.String(), "error", err)
		p.queue.AddRateLimited(shard)
		return true
	}
	p.queue.Forget(shard)
	return true
}

// try makes one compare-and-swap. nil means that the outcome was told or that nothing is asked any more.
func (p *proposals) try(ctx context.Context, shard ident.ShardID) error {
	p.mu.Lock()
	next, ok := p.next[shard]
	p.mu.Unlock()
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, proposalTimeout)
	defer cancel()
	inForce, err := p.swap(ctx, shard, next)
	if err != nil {
		return fmt.Errorf("propose epoch %d: %w", next.Epoch, err)
	}
	p.forget(shard, next.Epoch)
	p.decided(shard, inForce)
	return nil
}

// swap is the compare-and-swap. It answers with the Record in force: next if we won, the other one if the Epoch had
// moved on. A lost race on the resourceVersion alone (somebody touched a label) is undecided and tried again.
func (p *proposals) swap(ctx context.Context, shard ident.ShardID, next membership.Record) (membership.Record, error) {
	name, ok := p.name(shard)
	if !ok {
		return membership.Record{}, fmt.Errorf("find object of shard %s: %w", shard, errUndecided)
	}
	var object v1alpha1.Shard
	if err := p.reader.Get(ctx, client.ObjectKey{Name: name}, &object); err != nil {
		return membership.Record{}, fmt.Errorf("get shard %s: %w", name, err)
	}
	if ident.Epoch(object.Spec.Membership.Epoch) == next.Epoch-1 {
		apply(&object.Spec, next)
		err := p.api.Update(ctx, &object)
		if apierrors.IsConflict(err) {
			return membership.Record{}, fmt.Errorf("update shard %s: %w", name, errUndecided)
		}
		if err != nil {
			return membership.Record{}, fmt.Errorf("update shard %s: %w", name, err)
		}
		p.log.Info("Changed membership", "shard", name, "epoch", next.Epoch, "primary", next.Primary, "inSync", next.InSync)
	}
	return p.resolve(&object.Spec)
}

// forget drops the proposal unless a newer one has come meanwhile.
func (p *proposals) forget(shard ident.ShardID, epoch ident.Epoch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next[shard].Epoch <= epoch {
		delete(p.next, shard)
	}
}
