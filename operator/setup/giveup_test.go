package setup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// change changes a Shard's spec, as a Primary or a person would.
func (w *world) change(name string, change func(*v1alpha1.Shard)) {
	w.t.Helper()
	w.must(retry(func() error {
		s := w.shard(name, name, func(*v1alpha1.Shard) bool { return true })
		change(s)
		return w.api.Update(w.t.Context(), s)
	}))
}

// tells changes what the storenode of a Replica of v-0 says of it.
func (w *world) tells(id int64, change func(*v1alpha1.ShardReplicaStatus)) {
	w.t.Helper()
	w.must(retry(func() error {
		s := w.shard("v-0", "v-0", func(*v1alpha1.Shard) bool { return true })
		for i := range s.Status.Replicas {
			if s.Status.Replicas[i].ID == id {
				change(&s.Status.Replicas[i])
			}
		}
		return w.api.Status().Update(w.t.Context(), s)
	}))
}

// unready waits for the Shard's condition Ready to be False for that reason, and returns the commands in its message.
func (w *world) unready(name, reason string) string {
	w.t.Helper()
	var message string
	w.shard(name+" to be "+reason, name, func(s *v1alpha1.Shard) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Reason != reason || c.Status != metav1.ConditionFalse {
			return false
		}
		message = c.Message
		return true
	})
	_, command, found := strings.Cut(message, "kubectl annotate shard "+name+" ")
	if !found {
		w.t.Fatalf("%q names no command", message)
	}
	return command
}

// annotate does what kubectl annotate shard v-0 does.
func (w *world) annotate(command string) {
	w.t.Helper()
	w.change("v-0", func(s *v1alpha1.Shard) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		for pair := range strings.FieldsSeq(command) {
			key, value, _ := strings.Cut(pair, "=")
			s.Annotations[key] = value
		}
	})
}

// refused waits for the command to be taken off, and for an event of the Shard that says why.
func (w *world) refused(why string) {
	w.t.Helper()
	s := w.shard("the command to be taken off", "v-0", func(s *v1alpha1.Shard) bool {
		_, asked := s.Annotations[v1alpha1.GiveUpAnnotation]
		_, token := s.Annotations[v1alpha1.ServeIncompleteAnnotation]
		return !asked && !token
	})
	if len(s.GivenUp()) > 0 {
		w.t.Errorf("%+v were given up", s.GivenUp())
	}
	w.event(s, "GiveUpRefused", why)
}

func (w *world) event(s *v1alpha1.Shard, reason, text string) {
	w.t.Helper()
	w.until(fmt.Sprintf("an event %s: %s", reason, text), func() (bool, string) {
		var list eventsv1.EventList
		w.must(w.api.List(w.t.Context(), &list))
		var notes []string
		for i := range list.Items {
			if e := &list.Items[i]; e.Regarding.UID == s.UID && e.Reason == reason {
				notes = append(notes, e.Note)
			}
		}
		return slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, text) }), strings.Join(notes, "\n")
	})
}

// evicted makes a Shard's Primary alone InSync, and returns it and the other Replicas.
func (w *world) evicted(name string) (primary, left, other v1alpha1.ShardReplica) {
	w.t.Helper()
	w.shard(name+" to be served", name, func(s *v1alpha1.Shard) bool { return served(s) && len(s.Status.Contents) == 3 })
	w.change(name, func(s *v1alpha1.Shard) {
		s.Spec.Membership.Epoch++
		s.Spec.Membership.InSync = []int64{s.Spec.Membership.Primary}
	})
	s := w.shard("the evicted to be noted", name, func(s *v1alpha1.Shard) bool {
		return slices.ContainsFunc(s.Status.Contents, func(c v1alpha1.ReplicaContent) bool {
			return c.OutSince != nil && c.Epoch == 1 && !c.Incomplete
		})
	})
	var others []v1alpha1.ShardReplica
	for _, r := range s.Spec.Replicas {
		if r.ID == s.Spec.Membership.Primary {
			primary = r
		} else {
			others = append(others, r)
		}
	}
	return primary, others[0], others[1]
}

func TestDestroyedReplicasAreGivenUpByAPersonsWordOnly(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	w := newWorld(t, nil, nodes...)
	w.volume("v", gib, 3)
	primary, left, other := w.evicted("v-0")
	w.kubernetes(primary.NodeName)
	w.annotate(fmt.Sprintf("%s=%d@2", v1alpha1.GiveUpAnnotation, primary.ID))
	w.refused(fmt.Sprintf("replica %d is alive", primary.ID))

	// The other one is being rebuilt when the Primary dies, so that what it has is of no one moment.
	w.tells(other.ID, func(s *v1alpha1.ShardReplicaStatus) { s.State = v1alpha1.ReplicaRebuilding })
	w.shard("the rebuild to be noted", "v-0", func(s *v1alpha1.Shard) bool { return incompletes(s) == 1 })
	w.tells(other.ID, func(s *v1alpha1.ShardReplicaStatus) { s.State = v1alpha1.ReplicaStale })
	alive := without(nodes, primary.NodeName)
	w.pass(9*time.Second, alive...) // so long that its host has been asked for sure
	w.verdict(primary.NodeName, v1alpha1.ReasonHostAnswers)
	command := w.unready("v-0", v1alpha1.ReasonNoPrimary)
	w.annotate(command)
	w.refused("node " + primary.NodeName + " is not known to be dead (HostAnswers)")

	w.still(primary.NodeName)
	w.verdict(primary.NodeName, v1alpha1.ReasonNodeDead)
	w.annotate(strings.Replace(command, "@2", "@1", 1))
	w.refused("the command is of epoch 1, now it is epoch 2")
	w.annotate(v1alpha1.GiveUpAnnotation + "=all")
	w.refused("cannot be read")
	w.annotate(command)
	s := w.shard("the replica to be given up", "v-0", func(s *v1alpha1.Shard) bool { return s.Spec.Membership.Epoch >= 3 })
	m := s.Spec.Membership
	if m.Primary != left.ID || !slices.Equal(m.InSync, []int64{left.ID}) || node(s, primary.ID) != "" {
		t.Errorf("got %+v, want replica %d alone in sync and %d no replica", s.Spec, left.ID, primary.ID)
	}
	up := s.GivenUp()
	if len(up) != 1 || up[0].ID != primary.ID || up[0].NodeName != primary.NodeName || up[0].Epoch != 2 || isAsked(s) {
		t.Errorf("got annotations %v, want replica %d given up, and no command", s.Annotations, primary.ID)
	}
	w.event(s, "ReplicasGivenUp", "all that was written to the shard since is lost")
	w.shard("v-0 to have a primary", "v-0", func(s *v1alpha1.Shard) bool {
		return meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady).Reason != v1alpha1.ReasonNoPrimary
	})
}

func isAsked(s *v1alpha1.Shard) bool {
	_, asked := s.Annotations[v1alpha1.GiveUpAnnotation]
	return asked
}

func incompletes(s *v1alpha1.Shard) (n int) {
	for _, c := range s.Status.Contents {
		if c.Incomplete {
			n++
		}
	}
	return n
}

func TestIncompleteReplicaServesOnlyByASecondWord(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2", "n3")
	w.volume("v", gib, 2)
	w.shard("v-0 to be served", "v-0", func(s *v1alpha1.Shard) bool { return served(s) && len(s.Status.Contents) == 2 })
	var id, gone int64
	w.change("v-0", func(s *v1alpha1.Shard) {
		m := &s.Spec.Membership
		m.Epoch, m.InSync, gone = 2, []int64{m.Primary}, m.Primary
		id = s.Spec.Replicas[0].ID + s.Spec.Replicas[1].ID - m.Primary
	})
	w.tells(id, func(s *v1alpha1.ShardReplicaStatus) { s.State = v1alpha1.ReplicaRebuilding })
	s := w.shard("the rebuild to be noted", "v-0", func(s *v1alpha1.Shard) bool { return incompletes(s) == 1 })
	dead := node(s, gone)
	w.ready(dead, metav1.ConditionFalse, v1alpha1.ReasonMissing)
	command := w.unready("v-0", v1alpha1.ReasonNoPrimary)
	giveUp := fmt.Sprintf("%s=%d@2", v1alpha1.GiveUpAnnotation, gone)
	w.annotate(giveUp)
	w.refused(fmt.Sprintf("replica %d on node %s, is incomplete", id, node(s, id)))
	if want := fmt.Sprintf("%s=%d %s", v1alpha1.ServeIncompleteAnnotation, id, giveUp); command != want {
		t.Errorf("people are told %q, want %q", command, want)
	}
	w.annotate(command)
	w.shard("the failed replica to be given up", "v-0", func(s *v1alpha1.Shard) bool {
		return s.Spec.Membership.Primary == id && s.IsGivenUp(gone)
	})
	// It is placed anew, never where the one is kept that was given up.
	s = w.shard("a replacement", "v-0", func(s *v1alpha1.Shard) bool { return len(s.Spec.Replicas) == 2 })
	if r := s.Spec.Replicas[1]; r.NodeName == dead || r.ID != 3 {
		t.Errorf("got %+v, want another replica on another node", r)
	}
}

func TestPrimaryThatLostPowerAndWaitsGoesOnByAPersonsWordOnly(t *testing.T) {
	w := newWorld(t, nil, "n1", "n2")
	w.volume("v", gib, 2)
	s := w.shard("v-0 to be served", "v-0", served)
	m := s.Spec.Membership
	away := m.InSync[0] + m.InSync[1] - m.Primary
	w.tells(m.Primary, func(s *v1alpha1.ShardReplicaStatus) { s.PowerLost = true })
	w.pass(5*time.Second, node(s, m.Primary))
	command := w.unready("v-0", v1alpha1.ReasonWaitsForReplicas)
	w.must(w.api.Delete(t.Context(), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: device(node(s, away))}},
		client.GracePeriodSeconds(0)))
	w.shard("the device to be missed", "v-0", func(s *v1alpha1.Shard) bool {
		return strings.Contains(meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady).Message, "deleted")
	})
	w.annotate(command)
	s = w.shard("the replica to be given up", "v-0", func(s *v1alpha1.Shard) bool { return s.IsGivenUp(away) })
	got := s.Spec.Membership
	if got.Epoch != 2 || got.Primary != m.Primary || !slices.Equal(got.InSync, []int64{m.Primary}) {
		t.Errorf("got %+v, want the same primary alone in sync", got)
	}
}
