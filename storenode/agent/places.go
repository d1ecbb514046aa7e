package agent

import (
	"context"
	"maps"
	"slices"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
)

// places knows where Devices are served: Device object → node → address of its storenode.
type places struct {
	api  client.Reader
	node string

	mu sync.Mutex
	// local are the Devices in service here.
	local map[string]ident.UUID
}

// serve notes that a Device is in service here.
func (p *places) serve(id ident.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.local[deviceName(id)] = id
}

// remove notes that a Device is not in service here any more.
func (p *places) remove(id ident.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.local, deviceName(id))
}

// all are the Devices in service here.
func (p *places) all() []ident.UUID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.local))
}

// isLocal reports whether the Device is in service here.
func (p *places) isLocal(device string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.local[device]
	return ok
}

// localReplicas are those of the Shard's Replicas whose Device is in service here.
func (p *places) localReplicas(spec *v1alpha1.ShardSpec) []v1alpha1.ShardReplica {
	var local []v1alpha1.ShardReplica
	for _, c := range spec.Replicas {
		if p.isLocal(c.DeviceName) {
			local = append(local, c)
		}
	}
	return local
}

// address is host:port of the storenode that serves the Device, or empty while nobody is known to.
func (p *places) address(device string) string {
	ctx := context.Background() // reads the cache, which never waits
	var object v1alpha1.Device
	if err := p.api.Get(ctx, client.ObjectKey{Name: device}, &object); err != nil {
		return ""
	}
	var node v1alpha1.StoreNode
	if err := p.api.Get(ctx, client.ObjectKey{Name: object.Spec.NodeName}, &node); err != nil {
		return ""
	}
	return node.Spec.Addresses[transportTCP]
}

// nodes names the storenodes behind addresses, sorted; unknown addresses are left out.
func (p *places) nodes(ctx context.Context, addresses []string) []string {
	var list v1alpha1.StoreNodeList
	if err := p.api.List(ctx, &list); err != nil {
		return nil
	}
	var names []string
	for i := range list.Items {
		if slices.Contains(addresses, list.Items[i].Spec.Addresses[transportTCP]) {
			names = append(names, list.Items[i].Name)
		}
	}
	slices.Sort(names)
	return names
}
