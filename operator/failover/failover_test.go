package failover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// shard has three Replicas on n1, n2 and n3, all InSync and alive, Epoch 7 and Primary 1, then changed.
func shard(change ...func(*Shard)) *Shard {
	s := &Shard{
		Membership: Membership{Epoch: 7, Primary: 1, InSync: []int64{1, 2, 3}}, Wanted: 3, Nodes: map[string]Node{},
	}
	for id := int64(1); id <= 3; id++ {
		name := fmt.Sprintf("n%d", id)
		s.Replicas = append(s.Replicas, Replica{ID: id, Node: name, Device: "dev-" + name, Back: true})
		s.Nodes[name] = Node{Alive: true}
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func dead(names ...string) func(*Shard) {
	return func(s *Shard) {
		for _, n := range names {
			s.Nodes[n] = Node{}
		}
	}
}

func primaryLeaseAge(a time.Duration) func(*Shard) {
	return func(s *Shard) { n := s.Nodes["n1"]; n.LeaseAge = a; s.Nodes["n1"] = n }
}

// allReportOf is nobody hearing the node.
func allReportOf(node string) func(*Shard) {
	return func(s *Shard) {
		for name, n := range s.Nodes {
			if name != node {
				n.Unreachable = append(n.Unreachable, node)
				s.Nodes[name] = n
			}
		}
	}
}

// reportOf is n3 not hearing the node.
func reportOf(node string) func(*Shard) {
	return func(s *Shard) { n := s.Nodes["n3"]; n.Unreachable = append(n.Unreachable, node); s.Nodes["n3"] = n }
}

func inSync(ids ...int64) func(*Shard) { return func(s *Shard) { s.InSync = ids } }
func primary(id int64) func(*Shard)    { return func(s *Shard) { s.Primary = id } }
func failed(i int) func(*Shard)        { return func(s *Shard) { s.Replicas[i].Failed = true } }

func missing(i int) func(*Shard) { return func(s *Shard) { s.Replicas[i].Missing = true } }

// only the Replicas given are there.
func only(ids ...int64) func(*Shard) {
	return func(s *Shard) {
		s.Replicas = slices.DeleteFunc(s.Replicas, func(r Replica) bool { return !slices.Contains(ids, r.ID) })
	}
}

func wanted(n int) func(*Shard) { return func(s *Shard) { s.Wanted = n } }

func lossy(i int) func(*Shard) { return func(s *Shard) { s.Replicas[i].Lossy = true } }

func lost(i int, d time.Duration) func(*Shard) { return func(s *Shard) { s.Replicas[i].LostFor = d } }

func unknown(i int) func(*Shard) { return func(s *Shard) { s.Replicas[i].Back = false } }

func add(id int64, node string) func(*Shard) {
	return func(s *Shard) {
		s.Replicas = append(s.Replicas, Replica{ID: id, Node: node, Back: true})
		s.Nodes[node] = Node{Alive: true}
	}
}

func TestPrimary(t *testing.T) {
	for story, c := range map[string]struct {
		shard *Shard
		want  string
	}{
		"all is well":              {shard(), "keep"},
		"a dead Backup is left to": {shard(dead("n2")), "keep"},
		"the lease expired":        {shard(dead("n1")), "promote 2 epoch 8 inSync [2 3]: LeaseExpired"},
		"lease expired, a Backup is dead too: it stays InSync until the new Primary evicts it": {
			shard(dead("n1", "n2")), "promote 3 epoch 8 inSync [2 3]: LeaseExpired",
		},
		"a live Replica that is not InSync is never promoted": {
			shard(dead("n1"), inSync(1)), "refuse: the lease of storenode n1 expired; only these have every " +
				"acknowledged write, bring one of them back: node n1",
		},
		"nobody InSync lives": {
			shard(dead("n1", "n2", "n3")), "refuse: the lease of storenode n1 expired; only these have every " +
				"acknowledged write, bring one of them back: node n1, node n2, node n3",
		},
		"all others report: the lease says that it reaches the API server, no more": {
			shard(allReportOf("n1")), "promote 2 epoch 8 inSync [2 3]: ReportedUnreachable",
		},
		"all others but one report, and that one is dead: it may hear it": {
			shard(allReportOf("n1"), dead("n2")), "wait 1.5s",
		},
		"of two that do not hear each other nobody knows who is cut off": {
			shard(allReportOf("n1"), inSync(1, 2)), "wait 1.5s",
		},
		"a Backup reports, and a renewal was missed: the reporter becomes Primary": {
			shard(reportOf("n1"), primaryLeaseAge(ReportTrust)), "promote 3 epoch 8 inSync [2 3]: ReportedUnreachable",
		},
		"a Backup reports, but the lease is fresh: only that link is cut": {
			shard(reportOf("n1"), primaryLeaseAge(time.Second)), "wait 500ms",
		},
		"a stale reporter is nobody": {
			shard(reportOf("n1"), primaryLeaseAge(3*time.Second), inSync(1, 2)), "keep",
		},
		"a dead reporter is nobody": {
			shard(reportOf("n1"), primaryLeaseAge(3*time.Second), func(s *Shard) {
				n := s.Nodes["n3"]
				n.Alive = false
				s.Nodes["n3"] = n
			}), "keep",
		},
		"a report of another node": {shard(reportOf("n2"), primaryLeaseAge(3*time.Second)), "keep"},
		"the Primary's device failed": {
			shard(failed(0)), "promote 2 epoch 8 inSync [2 3]: ReplicaFailed",
		},
		"the object of the Primary's device was deleted": {
			shard(gone(0)), "promote 2 epoch 8 inSync [2 3]: ReplicaFailed",
		},
		"its device failed, and another in sync is on the same node": {
			shard(failed(0), inSync(1, 4), add(4, "n1")), "promote 4 epoch 8 inSync [4]: ReplicaFailed",
		},
		"its device was deleted, and another in sync is on the same node": {
			shard(gone(0), inSync(1, 4), add(4, "n1")), "promote 4 epoch 8 inSync [4]: ReplicaFailed",
		},
		"a failed Backup is not promoted": {
			shard(dead("n1"), failed(1)), "promote 3 epoch 8 inSync [2 3]: LeaseExpired",
		},
		"who lost power is promoted last": {
			shard(dead("n1"), lossy(1)), "promote 3 epoch 8 inSync [2 3]: LeaseExpired",
		},
		"only one who lost power is left: the former Primary, who may have more, stays InSync": {
			shard(dead("n1"), lossy(1), inSync(1, 2)), "promote 2 epoch 8 inSync [1 2]: LeaseExpired",
		},
		"all left have lost power": {
			shard(failed(0), lossy(1), lossy(2)), "promote 2 epoch 8 inSync [1 2 3]: ReplicaFailed",
		},
		"one who lost power reports: another, who has more, is waited for": {
			shard(reportOf("n1"), primaryLeaseAge(ReportTrust), lossy(2)), "keep",
		},
		"one who lost power reports, and all others have too": {
			shard(reportOf("n1"), primaryLeaseAge(ReportTrust), lossy(1), lossy(2)),
			"promote 3 epoch 8 inSync [1 2 3]: ReportedUnreachable",
		},
		"there is no Primary": {
			shard(primary(0), inSync(2, 3)), "promote 2 epoch 8 inSync [2 3]: NoPrimary",
		},
		"Primaries spread": {
			shard(dead("n1"), func(s *Shard) { s.Nodes["n2"] = Node{Alive: true, Primaries: 5} }),
			"promote 3 epoch 8 inSync [2 3]: LeaseExpired",
		},
	} {
		t.Run(story, func(t *testing.T) {
			if got := text(Decide(c.shard)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func text(d Decision) string {
	switch d.Action {
	case Keep:
		return "keep"
	case Wait:
		return "wait " + d.Again.String()
	case Promote:
		return fmt.Sprintf("promote %d epoch %d inSync %v: %s", d.Next.Primary, d.Next.Epoch, d.Next.InSync, d.Cause)
	case Refuse:
		return "refuse: " + d.Message
	}
	return "?"
}

// domain of the nodes given.
func domain(name string, nodes ...string) func(*Shard) {
	return func(s *Shard) {
		for i := range s.Replicas {
			if slices.Contains(nodes, s.Replicas[i].Node) {
				s.Replicas[i].Domain = name
			}
		}
	}
}

func TestReplicas(t *testing.T) {
	const after = 10 * time.Minute
	for story, c := range map[string]struct {
		shard *Shard
		want  string
	}{
		"all is well":                     {shard(), "nothing"},
		"out of InSync but not lost":      {shard(inSync(1, 2)), "nothing"},
		"lost, but not for long":          {shard(inSync(1, 2), lost(2, after-time.Second)), "nothing, again 1s"},
		"lost, but the Primary has it in": {shard(lost(2, after)), "nothing"},
		"lost for longer than the delay": {
			shard(inSync(1, 2), lost(2, after)), "add epoch 8 primary 1 inSync [1 2] apart from [1 2]",
		},
		"one is lost for longer, one is not": {
			shard(inSync(1), lost(1, time.Second), lost(2, after)),
			"add epoch 8 primary 1 inSync [1] apart from [1 2], again 9m59s",
		},
		"the lost one came back to its replacement": {
			shard(inSync(1, 2), add(4, "n3"), domain("c", "n3")), "remove 4 epoch 8 primary 1 inSync [1 2]",
		},
		"the lost one came back to its replacement, which is InSync": {
			shard(inSync(1, 4), add(4, "n4"), domain("c", "n3", "n4")), "remove 3 epoch 8 primary 1 inSync [1 4]",
		},
		"the lost one is still away": {
			shard(inSync(1, 2), dead("n3"), lost(2, after), add(4, "n4"), domain("c", "n3", "n4")), "nothing",
		},
		"it is not known to be back": {
			shard(inSync(1, 2), unknown(2), add(4, "n4"), domain("c", "n3", "n4")), "nothing",
		},
		"its device does not answer": {
			shard(inSync(1, 2), lost(2, after), add(4, "n4"), domain("c", "n3", "n4")), "nothing",
		},
		"it is away in maintenance by now, which is no reason to do without its replacement": {
			shard(inSync(1, 2), dead("n3"), add(4, "n4"), domain("c", "n3", "n4")), "nothing",
		},
		"two in one domain are all there is": {
			shard(inSync(1, 2), domain("c", "n2", "n3")), "nothing",
		},
		"the Primary, alone in sync, is on a device that failed": {
			shard(wanted(2), inSync(1), failed(0), lost(0, time.Second), lost(1, time.Second), only(1, 2)),
			"add epoch 8 primary 1 inSync [1] apart from [2], again 9m59s",
		},
		"the same, and another is being brought in sync beside it": {
			shard(wanted(1), inSync(1), failed(0), only(1), add(4, "n1"), domain("a", "n1")), "nothing",
		},
		"the same, and the other took over": {
			shard(wanted(1), inSync(4), primary(4), failed(0), lost(0, 1), only(1), add(4, "n1"), domain("a", "n1")),
			"remove 1 epoch 8 primary 4 inSync [4]",
		},
		"the device of the Primary is missing: it does nothing": {
			shard(wanted(1), inSync(1), failed(0), missing(0), only(1)), "nothing",
		},
		"a Backup failed, and its Primary has not evicted it yet": {shard(failed(1), lost(1, after)), "nothing"},
		"both came, and the replacement is Primary": {
			shard(add(4, "n4"), inSync(1, 2, 3, 4), primary(4), domain("a", "n1", "n4"), domain("b", "n2"), domain("c", "n3")),
			"remove 1 epoch 8 primary 4 inSync [2 3 4]",
		},
		"the replacement is being rebuilt": {
			shard(inSync(1, 2), lost(2, after), add(4, "n4")), "nothing",
		},
		"the replacement is InSync": {
			shard(inSync(1, 2, 4), lost(2, after), add(4, "n4")), "remove 3 epoch 8 primary 1 inSync [1 2 4]",
		},
		"the lost one came back first": {
			shard(add(4, "n4")), "remove 4 epoch 8 primary 1 inSync [1 2 3]",
		},
		"both came": {
			shard(add(4, "n4"), inSync(1, 2, 3, 4)), "remove 4 epoch 8 primary 1 inSync [1 2 3]",
		},
		"the Primary is never surplus": {
			shard(primary(3), func(s *Shard) { s.Wanted = 1 }), "remove 2 epoch 8 primary 3 inSync [1 3]",
		},
		"fewer are wanted, but the Primary may wait for one": {
			shard(wanted(2), lossy(0)), "nothing",
		},
		"fewer are wanted, but one is away": {
			shard(wanted(2), dead("n2")), "nothing",
		},
		"fewer are wanted": {
			shard(wanted(2)), "remove 3 epoch 8 primary 1 inSync [1 2]",
		},
		"more are wanted": {shard(wanted(4)), "add epoch 8 primary 1 inSync [1 2 3] apart from [1 2 3]"},
		"a bound": {
			shard(inSync(1, 2), lost(2, after), add(4, "a"), add(5, "b"), add(6, "c"), add(7, "d"), add(8, "e"),
				lost(3, after), lost(4, after), lost(5, after), lost(6, after), lost(7, after)), "nothing",
		},
	} {
		t.Run(story, func(t *testing.T) {
			d := Repair(c.shard, after)
			got := "nothing"
			m := fmt.Sprintf("epoch %d primary %d inSync %v", d.Next.Epoch, d.Next.Primary, d.Next.InSync)
			switch d.Action {
			case RepairAdd:
				got = fmt.Sprintf("add %s apart from %v", m, d.Kept)
			case RepairRemove:
				got = fmt.Sprintf("remove %d %s", d.Replica, m)
			case RepairNothing:
			}
			if d.Again > 0 {
				got += ", again " + d.Again.String()
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestNoDecisionBreaksAPromise draws Shards and looks at what must hold whatever is decided.
func TestNoDecisionBreaksAPromise(t *testing.T) {
	for seed := range uint64(4000) {
		random := rand.New(rand.NewPCG(seed, 2))
		s := shard(add(4, "n4"))
		s.InSync = nil
		s.Wanted = 1 + random.IntN(4)
		for i := range s.Replicas {
			s.Replicas[i].Failed, s.Replicas[i].Gone = random.IntN(5) == 0, random.IntN(5) == 0
			s.Replicas[i].Lossy = random.IntN(3) == 0
			s.Replicas[i].LostFor = time.Duration(random.IntN(3)) * time.Minute
			if random.IntN(2) == 0 {
				s.InSync = append(s.InSync, s.Replicas[i].ID)
			}
			n := Node{Alive: random.IntN(3) > 0, LeaseAge: time.Duration(random.IntN(3000)) * time.Millisecond}
			if random.IntN(2) == 0 {
				n.Unreachable = []string{fmt.Sprintf("n%d", 1+random.IntN(4))}
			}
			s.Nodes[s.Replicas[i].Node] = n
		}
		s.Primary = 0
		if len(s.InSync) > 0 && random.IntN(4) > 0 {
			s.Primary = s.InSync[random.IntN(len(s.InSync))]
		}
		before := fmt.Sprintf("%+v", s)
		if d := Decide(s); d.Action == Promote {
			r, _ := s.find(d.Next.Primary)
			switch {
			case !slices.Contains(s.InSync, d.Next.Primary), !slices.Contains(d.Next.InSync, d.Next.Primary):
				t.Fatalf("seed %d: promoted %d, which is not InSync: %s", seed, d.Next.Primary, before)
			case d.Next.Primary == s.Primary, d.Next.Epoch != s.Epoch+1, !s.Nodes[r.Node].Alive, r.Failed, r.Gone:
				t.Fatalf("seed %d: got %+v of %s", seed, d, before)
			case r.Lossy && len(d.Next.InSync) != len(s.InSync):
				t.Fatalf("seed %d: who lost power evicts somebody: %+v of %s", seed, d, before)
			case slices.ContainsFunc(d.Next.InSync, func(id int64) bool { return !slices.Contains(s.InSync, id) }):
				t.Fatalf("seed %d: InSync grew: %+v of %s", seed, d, before)
			}
		}
		if d := Repair(s, time.Minute); d.Action == RepairRemove {
			if d.Replica == s.Primary || len(d.Next.InSync) < min(s.Wanted, len(s.InSync)) ||
				d.Next.Primary != s.Primary || d.Next.Epoch != s.Epoch+1 {
				t.Fatalf("seed %d: got %+v of %s", seed, d, before)
			}
		}
		if after := fmt.Sprintf("%+v", s); after != before {
			t.Fatalf("seed %d: a decision changed what it was given:\n%s\n%s", seed, before, after)
		}
	}
}

func TestRefusalSaysWhatIsWrongWithEachHolder(t *testing.T) {
	d := Decide(shard(dead("n1"), inSync(1, 2, 3), failed(1), func(s *Shard) { s.Replicas[2].Gone = true }))
	for _, want := range []string{
		"node n1", "node n2, whose device dev-n2 failed", "node n3, whose device dev-n3 was deleted",
	} {
		if d.Action != Refuse || !strings.Contains(d.Message, want) {
			t.Errorf("got %v %q, want %q in it", d.Action, d.Message, want)
		}
	}
}
