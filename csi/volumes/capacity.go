package volumes

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// Capacity is the size of the largest Volume with so many Replicas that the Pool could promise now; no name means any
// Pool, no Replicas means one. It is an estimate: space is handed out in whole Shards, and the operator alone knows
// which Devices it refuses for a while (silent, stalled, full, or on a node in maintenance), so those are counted.
func (c *Client) Capacity(ctx context.Context, pool string, replicas int32) (int64, error) {
	pools, err := c.pools(ctx, pool)
	if err != nil {
		return 0, err
	}
	var devices v1alpha1.DeviceList
	if err := c.api.List(ctx, &devices); err != nil {
		return 0, fmt.Errorf("list devices: %w", err)
	}
	var most int64
	for i := range pools {
		domain, err := c.domains(ctx, pools[i].Spec.FailureDomain)
		if err != nil {
			return 0, err
		}
		most = max(most, largest(freeByDomain(&pools[i], devices.Items, domain), int(max(replicas, 1))))
	}
	return most, nil
}

// pools is the one named, or all.
func (c *Client) pools(ctx context.Context, name string) ([]v1alpha1.Pool, error) {
	if name != "" {
		p := v1alpha1.Pool{}
		if err := c.get(ctx, name, &p); err != nil {
			return nil, fmt.Errorf("get pool %s: %w", name, err)
		}
		return []v1alpha1.Pool{p}, nil
	}
	var list v1alpha1.PoolList
	if err := c.api.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list pools: %w", err)
	}
	return list.Items, nil
}

// freeByDomain is what each failure domain may still promise of the Pool.
func freeByDomain(p *v1alpha1.Pool, devices []v1alpha1.Device, domain func(node string) string) []int64 {
	free := map[string]int64{}
	for i := range devices {
		d := &devices[i]
		if d.Spec.PoolName == p.Name && meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady) {
			free[domain(d.Spec.NodeName)] += promisable(&d.Status, p.Spec.OvercommitPercent)
		}
	}
	return slices.Collect(maps.Values(free))
}

// domains tells the failure domain of a node: the value of the label, or the node itself without one.
func (c *Client) domains(ctx context.Context, label string) (func(node string) string, error) {
	if label == "" {
		return func(node string) string { return node }, nil
	}
	var nodes corev1.NodeList
	if err := c.api.List(ctx, &nodes, client.HasLabels{label}); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	value := map[string]string{}
	for i := range nodes.Items {
		value[nodes.Items[i].Name] = nodes.Items[i].Labels[label]
	}
	return func(node string) string {
		if v, labelled := value[node]; labelled {
			return "label/" + v
		}
		return "node/" + node
	}, nil
}

// promisable is what the Device may still promise.
func promisable(s *v1alpha1.DeviceStatus, overcommitPercent int32) int64 {
	if overcommitPercent <= 0 {
		overcommitPercent = 100
	}
	may := float64(s.CapacityBytes) / 100 * float64(overcommitPercent)
	if may > math.MaxInt64/2 {
		may = math.MaxInt64 / 2
	}
	return max(int64(may)-s.ReservedBytes, 0)
}

// largest is the most that fits replicas times into free, no two copies of a byte in one domain: the largest v with
// sum(min(f, v)) >= replicas*v. A domain with more than v can hold one copy of everything and no more; take such
// domains away, largest first, and what is left must hold the other copies.
func largest(free []int64, replicas int) int64 {
	slices.Sort(free)
	if replicas < 1 || len(free) < replicas {
		return 0
	}
	best := int64(math.MaxInt64)
	for full := range replicas {
		var rest int64
		for _, f := range free[:len(free)-full] {
			rest += f
		}
		best = min(best, rest/int64(replicas-full))
	}
	return best
}
