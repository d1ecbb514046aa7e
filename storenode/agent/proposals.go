package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	// held reports whether a Replica of the Shard is in service here: without one nobody waits for an outcome.
	held func(ident.ShardID) bool
	log  *slog.Logger

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
	if err != nil && !p.held(shard) {
		p.log.Info("Gave up a proposal, as no replica of the shard is here", "shard", shard.String(), "error", err)
		p.forget(shard, next.Epoch)
		return nil
	}
	if err != nil {
		return fmt.Errorf("propose epoch %d: %w", next.Epoch, err)
	}
	p.forget(shard, next.Epoch)
	p.decided(shard, inForce)
	return nil
}

// swap is the compare-and-swap. It answers with the Record in force: next if we won, the other one if the Epoch had
// moved on. The condition is the Epoch alone, tested by the API server as part of the change (RFC 6902): a condition on
// the resourceVersion would lose against every status report and label, of which there are most just when it matters.
func (p *proposals) swap(ctx context.Context, shard ident.ShardID, next membership.Record) (membership.Record, error) {
	name, ok := p.name(shard)
	if !ok {
		return membership.Record{}, fmt.Errorf("find object of shard %s: %w", shard, errUndecided)
	}
	patch, err := change(shard, next)
	if err != nil {
		return membership.Record{}, err
	}
	object := v1alpha1.Shard{ObjectMeta: metav1.ObjectMeta{Name: name}}
	refused := p.api.Patch(ctx, &object, patch)
	if refused == nil {
		p.log.Info("Changed membership", "shard", name, "epoch", next.Epoch, "primary", next.Primary, "inSync", next.InSync)
		return p.resolve(&object.Spec)
	}
	if !apierrors.IsInvalid(refused) {
		return membership.Record{}, fmt.Errorf("change membership of shard %s: %w", name, refused)
	}
	if err := p.reader.Get(ctx, client.ObjectKey{Name: name}, &object); err != nil {
		return membership.Record{}, fmt.Errorf("get shard %s: %w", name, err)
	}
	if id, err := shardID(&object.Spec); err != nil || id != shard {
		return membership.Record{}, fmt.Errorf("find shard %s: %s is another one now: %w", shard, name, errUndecided)
	}
	if ident.Epoch(object.Spec.Membership.Epoch) == next.Epoch-1 {
		return membership.Record{}, fmt.Errorf("change membership of shard %s: %w", name, refused)
	}
	return p.resolve(&object.Spec)
}

// change is the patch that puts next in the place of the Record before it, and of no other.
func change(shard ident.ShardID, next membership.Record) (client.Patch, error) {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	text, err := json.Marshal([]operation{
		{"test", "/spec/volumeID", shard.Volume.String()},
		{"test", "/spec/membership/epoch", next.Epoch - 1},
		{"replace", "/spec/membership", asObject(next)},
	})
	if err != nil {
		return nil, fmt.Errorf("write patch of membership: %w", err)
	}
	return client.RawPatch(types.JSONPatchType, text), nil
}

// forget drops the proposal unless a newer one has come meanwhile.
func (p *proposals) forget(shard ident.ShardID, epoch ident.Epoch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next[shard].Epoch <= epoch {
		delete(p.next, shard)
	}
}
