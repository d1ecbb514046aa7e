package failover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var fell = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// lost3 is a Shard whose InSync Replicas 1 and 2 are dead; 3 was last InSync in Epoch 5 and is alive; then changed.
func lost3(change ...func(*Shard)) *Shard {
	s := shard(dead("n1", "n2"), inSync(1, 2), content(3, 5), told)
	for _, c := range change {
		c(s)
	}
	return s
}

func told(s *Shard) {
	for i := range s.Replicas {
		s.Replicas[i].Told = true
	}
}

func content(id, epoch int64) func(*Shard) {
	return func(s *Shard) { s.Replicas[id-1].Content = Content{Epoch: epoch, Until: fell} }
}

func incomplete3(s *Shard) { s.Replicas[2].Content.Incomplete = true }

func host(node, sign string) func(*Shard) {
	return func(s *Shard) { n := s.Nodes[node]; n.Host = sign; s.Nodes[node] = n }
}

func gone(i int) func(*Shard) { return func(s *Shard) { s.Replicas[i].Gone = true } }

func epoch(e int64) func(*Shard) { return func(s *Shard) { s.Epoch = e } }

func TestGivingUp(t *testing.T) {
	const all = "1,2@7"
	for story, c := range map[string]struct {
		shard      *Shard
		request    string
		incomplete string
		want       string
	}{
		"all of InSync is dead": {
			lost3(), all, "", "primary 3 epoch 8 inSync [3]: it was last in sync in epoch 5, until 2026-01-02T03:04:05Z; " +
				"all that was written to the shard since is lost",
		},
		"the next Epoch is beyond all": {
			lost3(epoch(41)), "2,1@41", "", "primary 3 epoch 42 inSync [3]: it was last in sync in epoch 5",
		},
		"an InSync Replica that is dead too is not named": {
			lost3(), "1@7", "", "refused: replica 2 on node n2 cannot serve either",
		},
		"one that is named is alive": {
			shard(dead("n1")), all, "", "refused: replica 2 is alive: storenode n2 renews its lease and has device dev-n2",
		},
		"all named is dead, another InSync Replica is alive": {
			shard(dead("n1", "n2")), all, "", "refused: the shard goes on without: replicas [3] are in sync and alive",
		},
		"a Backup is dead, its Primary evicts it": {
			shard(dead("n2")), "2@7", "", "refused: the shard goes on without: replicas [1 3]",
		},
		"one that is named is not InSync": {
			lost3(), "1,2,3@7", "", "refused: replica 3 is not in sync",
		},
		"one that is named does not exist": {lost3(), "1,2,9@7", "", "refused: replica 9 is not in sync"},
		"nothing is wrong":                 {shard(), "1@7", "", "refused: replica 1 is alive"},
		"the command is of another Epoch":  {lost3(), "1,2@6", "", "refused: the command is of epoch 6, now it is epoch 7"},
		"never served":                     {lost3(epoch(0)), "1,2@0", "", "refused: the shard was never served"},
		"the object is older than the data": {
			lost3(func(s *Shard) { s.Seen = 9 }), all, "", "refused: a replica has seen epoch 9, the object has 7",
		},
		"the storenode is silent, its host answers": {
			lost3(host("n2", "HostAnswers")), all, "", "refused: node n2 is not known to be dead (HostAnswers)",
		},
		"the host answers, the device's object was deleted": {
			lost3(host("n2", "HostAnswers"), gone(1)), all, "", "primary 3 epoch 8 inSync [3]",
		},
		"the device failed on a storenode that is alive": {
			lost3(func(s *Shard) { s.Nodes["n2"] = Node{Alive: true} }, failed(1)), all, "", "primary 3 epoch 8 inSync [3]",
		},
		"nobody else is alive": {
			lost3(dead("n3")), all, "", "refused: no other replica is alive",
		},
		"nobody tells of the one that is left": {
			lost3(func(s *Shard) { s.Replicas[2].Told = false }), all, "", "refused: no other replica is alive",
		},
		"only an incomplete one is left": {
			lost3(incomplete3), all, "", "refused: the best that is left, replica 3 on node n3, is incomplete",
		},
		"only an incomplete one is left, and is wanted": {
			lost3(incomplete3), all, "3", "primary 3 epoch 8 inSync [3]: its content is incomplete",
		},
		"an older one is whole": {
			lost3(incomplete3, add(4, "n4"), told, content(4, 2)), all, "", "primary 4 epoch 8 inSync [4]: " +
				"it was last in sync in epoch 2",
		},
		"a dead one is wanted": {
			lost3(dead("n3"), add(4, "n4"), told, content(4, 2)), all, "3",
			"refused: replica 3 cannot serve instead: those that can are replica 4 on node n4",
		},
		"the newest is taken": {
			lost3(add(4, "n4"), told, content(4, 6)), all, "", "primary 4 epoch 8 inSync [4]",
		},
		"of equals the one that did not lose power": {
			lost3(add(4, "n4"), told, content(4, 5), lossy(2)), all, "", "primary 4 epoch 8 inSync [4]",
		},
		"the Primary has lost power and waits": {
			shard(dead("n2"), inSync(1, 2), lossy(0), told), "2@7", "", "primary 1 epoch 8 inSync [1]: writes that were " +
				"acknowledged and not flushed",
		},
		"all left have lost power and wait": {
			shard(dead("n2"), lossy(0), lossy(2), told), "2@7", "", "primary 1 epoch 8 inSync [1 3]",
		},
		"nothing is told of the Primary, so it is not known to wait": {
			shard(dead("n2"), inSync(1, 2), lossy(0)), "2@7", "", "refused: the shard goes on without",
		},
		"the Primary has lost power, another has not and takes over": {
			shard(dead("n2"), lossy(0), told), "2@7", "", "refused: the shard goes on without",
		},
		"the Primary is dead, who lost power is about to be promoted": {
			shard(dead("n1"), inSync(1, 2), lossy(1), told), "1@7", "", "refused: the shard goes on without",
		},
	} {
		t.Run(story, func(t *testing.T) {
			q, err := ParseRequest(c.request, c.incomplete)
			if err != nil {
				t.Fatal(err)
			}
			g := GiveUp(c.shard, q)
			got := "refused: " + g.Refusal
			if g.Refusal == "" {
				_, cost, _ := strings.Cut(g.Message, ": ")
				got = fmt.Sprintf("primary %d epoch %d inSync %v: %s", g.Next.Primary, g.Next.Epoch, g.Next.InSync, cost)
			}
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestARequestThatCannotBeReadIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "1,2", "1,2@", "@7", "1,,2@7", "0@7", "-1@7", "1,1@7", "1 2@7", "all@7", "1@x",
		"1,2,3,4,5,6,7,8,9@7", "99999999999999999999@7",
	} {
		if q, err := ParseRequest(text, ""); err == nil {
			t.Errorf("%q was read as %+v", text, q)
		}
	}
	for _, text := range []string{"x", "0", "3,4"} {
		if q, err := ParseRequest("1@7", text); err == nil {
			t.Errorf("%q was read as %+v", text, q)
		}
	}
	q, err := ParseRequest(" 1, 3@7 ", " 2")
	if err != nil || !slices.Equal(q.Replicas, []int64{1, 3}) || q.Epoch != 7 || q.Incomplete != 2 {
		t.Errorf("got %+v, %v", q, err)
	}
}

// TestWhatPeopleAreToldIsWhatTheyCanDo: the command in the text is granted, and says what it costs.
func TestWhatPeopleAreToldIsWhatTheyCanDo(t *testing.T) {
	for story, c := range map[string]struct {
		shard *Shard
		want  []string
	}{
		"dead": {
			lost3(func(s *Shard) { s.Replicas[0].Away = fell }), []string{
				"missing: replica 1 on node n1, device dev-n1, away since 2026-01-02T03:04:05Z; replica 2 on node n2",
				"replica 3 on node n3 serves then; it was last in sync in epoch 5, until 2026-01-02T03:04:05Z",
				"kubectl annotate shard v-0 shale.dev/give-up-replicas=1,2@7",
			},
		},
		"incomplete": {
			lost3(incomplete3), []string{
				"kubectl annotate shard v-0 shale.dev/serve-incomplete-replica=3 shale.dev/give-up-replicas=1,2@7",
			},
		},
		"power lost": {
			shard(dead("n2"), inSync(1, 2), lossy(0), told), []string{
				"missing: replica 2 on node n2", "not flushed", "shale.dev/give-up-replicas=2@7",
			},
		},
		"failed on a storenode that is alive": {
			shard(inSync(1), failed(0), told, content(3, 5)), []string{
				"device dev-n1, failed", "may yet bring another in sync", "shale.dev/give-up-replicas=1@7",
			},
		},
		"a newer one is away": {
			lost3(add(4, "n4"), content(4, 6), dead("n4")), []string{
				"newer than what is left: replica 4 on node n4", "shale.dev/give-up-replicas=1,2@7",
			},
		},
	} {
		t.Run(story, func(t *testing.T) {
			loss, lost := Losing(c.shard)
			if !lost {
				t.Fatal("nothing is lost")
			}
			text := loss.Text("v-0", c.shard.Epoch)
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("got %q, want %q in it", text, want)
				}
			}
			if g := GiveUp(c.shard, command(t, text)); g.Refusal != "" {
				t.Errorf("what was told to be done is refused: %s", g.Refusal)
			}
		})
	}
	loss, _ := Losing(lost3(dead("n3")))
	if text := loss.Text("v-0", 7); strings.Contains(text, "kubectl") {
		t.Errorf("nobody could serve instead, and a command is told: %s", text)
	}
}

// command reads the command in a text.
func command(t *testing.T, text string) Request {
	t.Helper()
	var giveUp, incomplete string
	for word := range strings.FieldsSeq(text) {
		if v, found := strings.CutPrefix(word, "shale.dev/give-up-replicas="); found {
			giveUp = v
		}
		if v, found := strings.CutPrefix(word, "shale.dev/serve-incomplete-replica="); found {
			incomplete = v
		}
	}
	q, err := ParseRequest(giveUp, incomplete)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestNothingIsGivenUpThatMayServe draws Shards and requests and looks at what must hold whatever is granted.
func TestNothingIsGivenUpThatMayServe(t *testing.T) {
	granted := 0
	for seed := range uint64(20000) {
		random := rand.New(rand.NewPCG(seed, 3))
		s := shard(add(4, "n4"), told)
		s.InSync, s.Seen = nil, 5+random.Int64N(4)
		for i := range s.Replicas {
			r := &s.Replicas[i]
			r.Failed, r.Gone, r.Lossy = random.IntN(6) == 0, random.IntN(6) == 0, random.IntN(3) == 0
			r.Told = random.IntN(5) > 0
			r.Content = Content{Epoch: random.Int64N(8), Incomplete: random.IntN(3) == 0}
			if random.IntN(2) == 0 {
				s.InSync = append(s.InSync, r.ID)
			}
			s.Nodes[r.Node] = Node{Alive: random.IntN(2) == 0, Host: []string{"", "KubeletAlive"}[random.IntN(4)/3]}
		}
		s.Primary = 0
		if len(s.InSync) > 0 {
			s.Primary = s.InSync[random.IntN(len(s.InSync))]
		}
		q := Request{Epoch: 7 - random.Int64N(8)/7, Incomplete: max(0, random.Int64N(8)-3)}
		if loss, _ := Losing(s); random.IntN(3) > 0 {
			for _, r := range loss.Away {
				q.Replicas = append(q.Replicas, r.ID)
			}
		} else {
			q.Replicas = []int64{1 + random.Int64N(4)}
		}
		g := GiveUp(s, q)
		if g.Refusal != "" {
			continue
		}
		granted++
		seen := fmt.Sprintf("seed %d: %+v of %+v for %+v", seed, g, s, q)
		primary, found := s.find(g.Next.Primary)
		switch {
		case !found, !s.able(primary), !slices.Contains(g.Next.InSync, primary.ID), q.Epoch != s.Epoch:
			t.Fatal(seen)
		case g.Next.Epoch <= s.Epoch, g.Next.Epoch <= s.Seen:
			t.Fatal(seen)
		case primary.Content.Incomplete && !slices.Contains(s.InSync, primary.ID) && q.Incomplete != primary.ID:
			t.Fatal(seen)
		case Decide(s).Action == Promote:
			t.Fatal("somebody could be promoted: " + seen)
		}
		for _, r := range g.Up {
			alive := s.able(r) || s.Nodes[r.Node].Host != "" && !r.Gone && !r.Failed
			if alive || slices.Contains(g.Next.InSync, r.ID) || !slices.Contains(q.Replicas, r.ID) {
				t.Fatal(seen)
			}
		}
		for _, id := range s.InSync {
			up := slices.ContainsFunc(g.Up, func(r Replica) bool { return r.ID == id })
			if up == slices.Contains(g.Next.InSync, id) {
				t.Fatal(seen)
			}
		}
	}
	if granted < 100 {
		t.Errorf("only %d were granted: the draw shows little", granted)
	}
}
