package placement

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const gib = int64(1) << 30

func nodes(free ...int64) []Device {
	var all []Device
	for i, f := range free {
		name := fmt.Sprintf("n%d", i+1)
		all = append(all, Device{Name: "dev-" + name, Node: name, Domain: "node/" + name, Free: f})
	}
	return all
}

func TestNoRoomSaysWhyForEachCandidate(t *testing.T) {
	down := nodes(4*gib, 2*gib, 4*gib)
	down[2].Refusal = "its storenode is down"
	zoned := nodes(gib, gib)
	zoned[0].Domain, zoned[1].Domain = "label/a", "label/a"
	for name, c := range map[string]struct {
		devices []Device
		request Request
		want    []string
	}{
		"too few nodes": {
			nodes(4*gib, 4*gib),
			Request{Pool: "fast", Size: gib, Count: 3},
			[]string{"pool fast: 2 nodes have Devices, 3 replicas wanted"},
		},
		"one node": {
			nodes(4 * gib),
			Request{Pool: "fast", Size: gib, Count: 2},
			[]string{"pool fast: 1 node has Devices, 2 replicas wanted"},
		},
		"no devices at all": {
			nil,
			Request{Pool: "fast", Size: gib, Count: 1},
			[]string{"pool fast: 0 nodes have Devices, 1 replicas wanted"},
		},
		"one failure domain": {
			zoned,
			Request{Pool: "fast", DomainLabel: "zone", Size: gib, Count: 2},
			[]string{"pool fast: 1 value of zone has Devices, 2 replicas wanted"},
		},
		"too little space, and a dead storenode": {
			down,
			Request{Pool: "fast", Size: 3 * gib, Count: 2},
			[]string{
				"no room for 2 replicas of 3.0 GiB", "node n2: device dev-n2: 2.0 GiB free of 3.0 GiB needed",
				"node n3: device dev-n3: its storenode is down",
			},
		},
		"taken and refused": {
			nodes(gib, gib),
			Request{
				Pool: "fast", Size: gib, Count: 1, Taken: []string{"node/n1"},
				Refusals: map[string]string{"dev-n2": "refused replica 2: full"},
			},
			[]string{"dev-n1: another replica of the shard is on this node", "dev-n2: refused replica 2: full"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := New(c.devices)
			_, err := p.Place(c.request)
			no, ok := errors.AsType[*NoRoomError](err)
			if !ok {
				t.Fatalf("got %v, want a NoRoomError", err)
			}
			for _, want := range c.want {
				if !strings.Contains(no.Message, want) {
					t.Errorf("got %q, want %q in it", no.Message, want)
				}
			}
			for _, d := range c.devices {
				i := slices.IndexFunc(p.devices, func(o Device) bool { return o.Name == d.Name })
				if p.devices[i].Free != d.Free {
					t.Errorf("device %s: a refusal took %d bytes", d.Name, d.Free-p.devices[i].Free)
				}
			}
		})
	}
}

func TestMessageNamesABoundedNumberOfCandidates(t *testing.T) {
	_, err := New(nodes(make([]int64, 100)...)).Place(Request{Pool: "p", Size: gib, Count: 1})
	if err == nil || strings.Count(err.Error(), ";") != maxReasons || !strings.HasSuffix(err.Error(), "and 89 more") {
		t.Errorf("got %v", err)
	}
}

// TestPlacesAreFoundWheneverThereAreAny compares with a formula that knows nothing of the choice: count Shards of equal
// size with r Replicas fit exactly if the domains can hold r*count Replicas, none more than one of each Shard.
func TestPlacesAreFoundWheneverThereAreAny(t *testing.T) {
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		var devices []Device
		slots := map[string]int{}
		for i := range 1 + random.IntN(8) {
			domain := fmt.Sprintf("d%d", random.IntN(5))
			free := random.IntN(5)
			name := fmt.Sprintf("x%d", i)
			devices = append(devices, Device{
				Name: name, Node: domain + name, Domain: domain, Free: int64(free)*gib + int64(random.IntN(int(gib))),
			})
			slots[domain] += free
		}
		replicas, count := 1+random.IntN(3), 1+random.IntN(6)
		room := 0
		for _, n := range slots {
			room += min(n, count)
		}
		p, placed := New(devices), 0
		for shard := range count {
			got, err := p.Place(Request{Shard: fmt.Sprint("s", shard), Size: gib, Count: replicas})
			if err != nil {
				break
			}
			placed++
			apart := map[string]bool{}
			for _, d := range got {
				apart[d.Domain] = true
			}
			if len(got) != replicas || len(apart) != replicas {
				t.Fatalf("seed %d: got %+v, want %d domains", seed, got, replicas)
			}
		}
		if want := room >= replicas*count; want != (placed == count) {
			t.Fatalf("seed %d: placed %d of %d shards with %d replicas on %+v; there is room: %v",
				seed, placed, count, replicas, devices, want)
		}
		for _, d := range p.devices {
			if d.Free < 0 {
				t.Fatalf("seed %d: device %s is overfull", seed, d.Name)
			}
		}
	}
}

func TestPrimariesSpreadOverNodesAndTheSameInputGivesTheSameAnswer(t *testing.T) {
	run := func(devices []Device) (answers string, primaries map[string]int) {
		p := New(devices)
		primaries = map[string]int{}
		for shard := range 9 {
			got, err := p.Place(Request{Shard: fmt.Sprint("s", shard), Size: gib, Count: 3})
			if err != nil {
				t.Fatal(err)
			}
			primaries[got[0].Node]++
			answers += fmt.Sprint(got)
		}
		return answers, primaries
	}
	devices := nodes(20*gib, 20*gib, 20*gib)
	first, primaries := run(devices)
	slices.Reverse(devices)
	second, _ := run(devices)
	if first != second {
		t.Error("the order of Devices matters")
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		if primaries[n] != 3 {
			t.Errorf("primaries are on %v, want 3 on each node", primaries)
			break
		}
	}
}
