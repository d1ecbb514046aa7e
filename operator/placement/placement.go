package placement

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// Device is a candidate, as the caller gathered it.
type Device struct {
	Name, Node string
	// Domain is the failure domain of Node.
	Domain string
	// Free is what may still be promised, in bytes.
	Free int64
	// Primaries that are, or are meant to be, on this Device. They weigh on its node.
	Primaries int
	// Refusal says why this Device takes no Replica now; empty if it does.
	Refusal string
}

// Request asks for Replicas of one Shard.
type Request struct {
	// Shard is the name by which equal candidates are told apart.
	Shard string
	// Pool and DomainLabel are for messages; an empty label means that nodes are the domains.
	Pool, DomainLabel string
	// Size of each Replica, in bytes.
	Size int64
	// Count of the Replicas to place now.
	Count int
	// Taken are the domains of the Shard's other Replicas.
	Taken []string
	// Refusals are reasons, by Device, why this Shard in particular cannot be there.
	Refusals map[string]string
}

// Planner places Shard after Shard on the same Devices. Not for concurrent use.
type Planner struct {
	devices   []Device
	primaries map[string]int
}

// New makes a Planner. Order of devices does not matter.
func New(devices []Device) *Planner {
	p := &Planner{devices: slices.Clone(devices), primaries: map[string]int{}}
	slices.SortFunc(p.devices, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Name, b.Name))
	})
	for _, d := range p.devices {
		p.primaries[d.Node] += d.Primaries
	}
	return p
}

// Place finds Devices for all Replicas asked for, the one for the Primary first, or is a *NoRoomError and takes
// nothing.
func (p *Planner) Place(r Request) ([]Device, error) {
	taken := map[string]bool{}
	for _, domain := range r.Taken {
		taken[domain] = true
	}
	var chosen []int
	for range r.Count {
		best := p.best(&r, taken)
		if best < 0 {
			return nil, p.noRoom(&r)
		}
		taken[p.devices[best].Domain] = true
		chosen = append(chosen, best)
	}
	slices.SortStableFunc(chosen, func(a, b int) int {
		return cmp.Compare(p.primaries[p.devices[a].Node], p.primaries[p.devices[b].Node])
	})
	answer := make([]Device, 0, len(chosen))
	for _, i := range chosen {
		p.devices[i].Free -= r.Size
		answer = append(answer, p.devices[i])
	}
	if len(r.Taken) == 0 && len(answer) > 0 {
		p.primaries[answer[0].Node]++
	}
	return answer, nil
}

// best is the index of the Device for the next Replica, -1 if there is none.
func (p *Planner) best(r *Request, taken map[string]bool) int {
	slots := map[string]int64{}
	for i := range p.devices {
		if d := &p.devices[i]; p.fits(r, d) {
			slots[d.Domain] += d.Free / max(r.Size, 1)
		}
	}
	best := -1
	for i := range p.devices {
		d := &p.devices[i]
		if taken[d.Domain] || !p.fits(r, d) {
			continue
		}
		if best < 0 || better(r.Shard, slots, d, &p.devices[best]) {
			best = i
		}
	}
	return best
}

func (p *Planner) fits(r *Request, d *Device) bool {
	return d.Refusal == "" && r.Refusals[d.Name] == "" && d.Free >= r.Size
}

// better orders candidates: room in the domain, room on the Device, and a hash to break ties.
func better(shard string, slots map[string]int64, a, b *Device) bool {
	return cmp.Or(
		cmp.Compare(slots[a.Domain], slots[b.Domain]),
		cmp.Compare(a.Free, b.Free),
		cmp.Compare(lot(shard, a.Name), lot(shard, b.Name)),
		cmp.Compare(b.Name, a.Name),
	) > 0
}

// lot is a number that depends on the pair alone.
func lot(shard, device string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(shard + "\x00" + device)) // never fails
	return h.Sum64()
}
