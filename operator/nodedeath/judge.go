package nodedeath

import (
	"fmt"
	"time"

	"github.com/shale-storage/shale/api/v1alpha1"
)

const (
	// SilentRounds is how often in a row the host must not answer while a witness does.
	SilentRounds = 2
	// kubeletSlack is how much longer than between two renewals a kubelet's Lease stands still before that counts by
	// itself.
	kubeletSlack = 3 * time.Second
	// KubeletSilence is that time for a kubelet that renews every 10 s, and for one that renews more often.
	KubeletSilence = 10*time.Second + kubeletSlack
	// slack is how much later than its storenode a dying node's kubelet may have been heard.
	slack = 2 * time.Second
	// retry is how soon a suspect is looked at again, watch how soon a node whose storenode alone is down.
	retry = 300 * time.Millisecond
	watch = 3 * time.Second
	// long is how long a node has been away before it is watched less closely, every rest.
	long = time.Minute
	rest = 30 * time.Second
)

// Host is what became of connections to a host.
type Host uint8

// The states of a host.
const (
	// HostUnknown: no witness answered either, so nothing is learnt.
	HostUnknown Host = iota
	// HostAnswers: it accepts connections, or refuses them.
	HostAnswers
	// HostSilent: it does not answer, and a witness does.
	HostSilent
)

// Evidence about a node.
type Evidence struct {
	Node string
	// StorenodeAlive: its Lease has not expired. StorenodeAge is how long it has stood still, KubeletAge the same of
	// the kubelet's.
	StorenodeAlive           bool
	StorenodeAge, KubeletAge time.Duration
	// NeverHeard: no Lease of the storenode was ever seen, so its silence says nothing.
	NeverHeard bool
	// KubeletPause is how long the kubelet's Lease stands still between two renewals.
	KubeletPause time.Duration
	// KubeletsSilent: no kubelet of any node was heard for so long, so this one's silence says nothing.
	KubeletsSilent bool
	Host           Host
	// Rounds in which the host was HostSilent, in a row, this one included.
	Rounds int
	// Alive of all StoreNodes.
	Alive, All int
	// Evacuated: it was found dead before, and has not been back.
	Evacuated bool
	// Maintenance is why the StoreNode is in maintenance, empty if it is not.
	Maintenance string
}

// Verdict about a node.
type Verdict struct {
	// Dead: detach its volumes.
	Dead bool
	// Reason of the condition NodeAlive.
	Reason string
	// Message for people.
	Message string
	// Again is when to look again, 0 if something will happen before.
	Again time.Duration
}

// Judge says whether the node is dead. Each sign of life, and each doubt, comes before what only forbids to act: the
// reasons [v1alpha1.ReasonNoLease], [v1alpha1.ReasonInMaintenance] and [v1alpha1.ReasonTooManySilent] say of a node
// that it seems dead.
func Judge(e *Evidence) Verdict {
	why := e.silence()
	switch {
	case e.StorenodeAlive:
		return Verdict{Reason: v1alpha1.ReasonStorenodeAlive, Message: "Its storenode renews its lease"}
	case e.Host == HostAnswers:
		return Verdict{Reason: v1alpha1.ReasonHostAnswers, Again: watch, Message: "Its storenode is down, its host answers"}
	case e.KubeletAge+slack < e.StorenodeAge && !e.kubeletSilent():
		return Verdict{
			Reason: v1alpha1.ReasonKubeletAlive, Again: watch,
			Message: "Its storenode is down, its kubelet was heard since",
		}
	case why == "" && e.KubeletsSilent:
		return Verdict{
			Reason: v1alpha1.ReasonSuspected, Again: watch,
			Message: "Its storenode is silent, its host is asked; no kubelet of any node is heard",
		}
	case why == "":
		return Verdict{Reason: v1alpha1.ReasonSuspected, Again: retry, Message: "Its storenode is silent, its host is asked"}
	case e.NeverHeard:
		return Verdict{
			Reason: v1alpha1.ReasonNoLease, Again: e.pause(),
			Message: "No lease of its storenode was ever seen, so nothing is done; " + why,
		}
	case e.Maintenance != "":
		volumes := "its volumes stay attached"
		if e.Evacuated {
			volumes = "its volumes were detached when it was found dead before"
		}
		return Verdict{
			Reason: v1alpha1.ReasonInMaintenance, Again: watch,
			Message: "It is in maintenance (" + e.Maintenance + "): " + volumes + ", its replicas stay in place",
		}
	case 2*e.Alive < e.All:
		return Verdict{
			Reason: v1alpha1.ReasonTooManySilent, Again: watch,
			Message: fmt.Sprintf(
				"Only %d of %d storenodes live: nothing is detached while fewer than half do", e.Alive, e.All),
		}
	}
	return e.dead(why)
}

// silence is what says that the host is silent too, empty while nothing does.
func (e *Evidence) silence() string {
	switch {
	case e.Evacuated:
		return "it was found dead before"
	case e.Host == HostSilent && e.Rounds >= SilentRounds:
		return "its host does not answer, while others do"
	case e.Host == HostUnknown && e.kubeletSilent() && !e.KubeletsSilent:
		return "hosts cannot be asked"
	}
	return ""
}

// Patience is how long the kubelet must have been silent before that counts by itself.
func (e *Evidence) Patience() time.Duration { return max(KubeletSilence, e.KubeletPause+kubeletSlack) }

func (e *Evidence) kubeletSilent() bool { return e.KubeletAge >= e.Patience() }

func (e *Evidence) dead(why string) Verdict {
	return Verdict{
		Dead: true, Reason: v1alpha1.ReasonNodeDead, Again: e.pause(),
		Message: fmt.Sprintf("Node %s is dead: its storenode has been silent for %s, its kubelet for %s; %s",
			e.Node, e.StorenodeAge.Round(time.Second/10), e.KubeletAge.Round(time.Second/10), why),
	}
}

// pause is when to look again at a node that seems dead.
func (e *Evidence) pause() time.Duration {
	if e.StorenodeAge > long {
		return rest
	}
	return watch
}
