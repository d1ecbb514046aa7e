package inventory

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/placement"
)

// Pass is one run of placement decisions, during which nobody else decides. End it, and soon.
type Pass struct {
	inventory *Inventory
	planner   *placement.Planner
	pool      *v1alpha1.Pool
	domain    func(node string) string
}

// Begin starts a Pass over the Devices of the Pool.
func (i *Inventory) Begin(ctx context.Context, pool *v1alpha1.Pool) (*Pass, error) {
	domain, err := i.Domains(ctx, pool.Spec.FailureDomain)
	if err != nil {
		return nil, err
	}
	devices, err := i.DevicesOfPool(ctx, pool.Name)
	if err != nil {
		return nil, err
	}
	maintenance, err := i.maintenance(ctx)
	if err != nil {
		return nil, err
	}
	i.pass.Lock()
	i.sweepLocked()
	var candidates []placement.Device
	for j := range devices {
		if !IsClaimed(devices[j].Name) {
			continue
		}
		c := i.candidate(pool, &devices[j])
		c.Domain = domain(c.Node)
		if why := maintenance[c.Node]; why != "" && c.Refusal == "" {
			c.Refusal = fmt.Sprintf("its node is in maintenance (%s)", why)
		}
		candidates = append(candidates, c)
	}
	return &Pass{inventory: i, planner: placement.New(candidates), pool: pool, domain: domain}, nil
}

// End lets others decide.
func (p *Pass) End() { p.inventory.pass.Unlock() }

// Want is a wish for Replicas of one Shard.
type Want struct {
	Shard string
	Size  int64
	// Count of Replicas; the first gets the ID First, and so on.
	Count int
	First int64
	// Nodes of the Shard's other Replicas.
	Nodes []string
	// Refusals are reasons, by Device, why it cannot be there.
	Refusals map[string]string
}

// maintenance is why people work on nodes, by node. Nothing new is put where it would be missing soon.
func (i *Inventory) maintenance(ctx context.Context) (map[string]string, error) {
	var list v1alpha1.StoreNodeList
	if err := i.api.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list storenodes: %w", err)
	}
	why := map[string]string{}
	for j := range list.Items {
		if node := &list.Items[j]; node.Spec.Maintenance != "" {
			why[node.Name] = node.Spec.Maintenance
		}
	}
	return why, nil
}

// Place finds places and remembers them until they are seen in the cache. A *placement.NoRoomError says why not.
func (p *Pass) Place(w Want) ([]v1alpha1.ShardReplica, error) {
	request := placement.Request{
		Shard: w.Shard, Pool: p.pool.Name, DomainLabel: p.pool.Spec.FailureDomain,
		Size: w.Size, Count: w.Count, Refusals: w.Refusals,
	}
	for _, node := range w.Nodes {
		request.Taken = append(request.Taken, p.domain(node))
	}
	devices, err := p.planner.Place(request)
	if err != nil {
		return nil, err
	}
	var replicas []v1alpha1.ShardReplica
	for at, d := range devices {
		r := v1alpha1.ShardReplica{ID: w.First + int64(at), DeviceName: d.Name, NodeName: d.Node}
		replicas = append(replicas, r)
		p.inventory.ledger[ledgerKey{w.Shard, r.ID}] = ledgerEntry{
			device: d.Name, size: w.Size, primary: at == 0 && len(w.Nodes) == 0, at: p.inventory.clock.Now(),
		}
	}
	return replicas, nil
}

// Forget takes back places that were not written after all.
func (p *Pass) Forget(shard string, replicas []v1alpha1.ShardReplica) {
	for _, r := range replicas {
		delete(p.inventory.ledger, ledgerKey{shard, r.ID})
	}
}

// sweepLocked drops what the tally has by now, and what must have failed.
func (i *Inventory) sweepLocked() {
	for key, e := range i.ledger {
		if i.clock.Since(e.at) > ledgerFor || i.tally.next(key.shard) > key.replica {
			delete(i.ledger, key)
		}
	}
}
