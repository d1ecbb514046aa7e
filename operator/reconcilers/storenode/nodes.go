package storenode

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/evacuation"
	"github.com/shale-storage/shale/operator/liveness"
	"github.com/shale-storage/shale/operator/metrics"
	"github.com/shale-storage/shale/operator/nodedeath"
)

// maxWitnesses bounds the hosts that are asked beside a suspect's, to know that hosts can be asked at all.
const maxWitnesses = 2

// Hosts asks a host for a sign of life.
type Hosts interface {
	// Answer reports whether any of the addresses accepts or refuses a connection, within a second or so.
	Answer(ctx context.Context, addresses []string) bool
}

// Nodes finds dead nodes and has them evacuated. All exported fields must be given but those that say otherwise.
type Nodes struct {
	API   client.Client
	Alive *liveness.Tracker
	Hosts Hosts
	// Node is the operator's own, empty if it is on none. Its host is no witness: it answers whatever is cut off.
	Node string
	// Evacuator is nil if dead nodes are only told of.
	Evacuator *evacuation.Evacuator
	Metrics   *metrics.Metrics
	Log       *slog.Logger

	mu sync.Mutex
	// rounds in which a host was silent, by node. Bounded by the nodes there are.
	rounds map[string]int
}

// look says whether the StoreNode's node is dead, and acts: it evacuates a dead one and welcomes one that is back.
func (n *Nodes) look(ctx context.Context, object *v1alpha1.StoreNode) (nodedeath.Verdict, error) {
	var node corev1.Node
	err := n.API.Get(ctx, client.ObjectKey{Name: object.Name}, &node)
	if client.IgnoreNotFound(err) != nil {
		return nodedeath.Verdict{Reason: v1alpha1.ReasonSuspected}, fmt.Errorf("get node %s: %w", object.Name, err)
	}
	e := &nodedeath.Evidence{
		Node: object.Name, Evacuated: n.Evacuator != nil && evacuation.IsEvacuated(&node),
		Maintenance: object.Spec.Maintenance,
	}
	host := nodedeath.HostUnknown // what was silent before says nothing about the next silence
	// One that lives is looked at each second, and the others have no say in that.
	if n.heard(e); !e.StorenodeAlive {
		if host, err = n.suspect(ctx, object, e); err != nil {
			return nodedeath.Verdict{Reason: v1alpha1.ReasonSuspected}, err
		}
	}
	n.ask(e, host)
	verdict := nodedeath.Judge(e)
	if verdict.Dead && n.Evacuator != nil {
		return verdict, n.evacuate(ctx, object.Name, verdict.Message)
	}
	if e.Evacuated && n.isBack(object.Name) {
		n.Log.Info("Node is back", "node", object.Name)
		return verdict, n.Evacuator.Welcome(ctx, &node)
	}
	return verdict, nil
}

// suspect looks at all StoreNodes, and asks the host of the one that is silent.
func (n *Nodes) suspect(
	ctx context.Context, object *v1alpha1.StoreNode, e *nodedeath.Evidence,
) (nodedeath.Host, error) {
	all, err := n.hear(ctx, e)
	if err != nil {
		return nodedeath.HostUnknown, err
	}
	host := n.host(ctx, object, all)
	// It took a while, in which the node may have been heard.
	if _, err := n.hear(ctx, e); err != nil || e.StorenodeAlive {
		return nodedeath.HostUnknown, err
	}
	return host, nil
}

// isBack reports whether both were heard again, the kubelet after the storenode.
func (n *Nodes) isBack(node string) bool {
	state, kubelet := n.Alive.State(node), n.Alive.State(liveness.Kubelet(node))
	return state.Alive && state.Renewed && kubelet.Renewed && kubelet.Age < state.AliveFor
}

// heard notes when the storenode and its kubelet were. Of who was never heard the time runs from the first time on that
// somebody asks, so both are asked each time.
func (n *Nodes) heard(e *nodedeath.Evidence) {
	state := n.Alive.State(e.Node)
	e.StorenodeAlive, e.StorenodeAge, e.NeverHeard = state.Alive, state.Age, !state.Heard
	kubelet := n.Alive.State(liveness.Kubelet(e.Node))
	e.KubeletAge, e.KubeletPause = kubelet.Age, kubelet.Pause
}

// hear notes who was heard when: the storenode, its kubelet, and how many storenodes live, of those ever heard of. It
// returns them all, to be read only.
func (n *Nodes) hear(ctx context.Context, e *nodedeath.Evidence) ([]v1alpha1.StoreNode, error) {
	var list v1alpha1.StoreNodeList
	if err := n.API.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list storenodes: %w", err)
	}
	e.Alive, e.All = 0, 0
	for i := range list.Items {
		switch state := n.Alive.State(list.Items[i].Name); {
		case !state.Heard:
		case state.Alive:
			e.Alive++
			e.All++
		default:
			e.All++
		}
	}
	n.heard(e)
	e.KubeletsSilent = !n.Alive.HeardKubelet(e.Patience())
	return list.Items, nil
}

// ask notes what became of asking the host.
func (n *Nodes) ask(e *nodedeath.Evidence, host nodedeath.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rounds == nil {
		n.rounds = map[string]int{}
	}
	if host == nodedeath.HostSilent {
		n.rounds[e.Node]++
	} else {
		delete(n.rounds, e.Node)
	}
	e.Host, e.Rounds = host, n.rounds[e.Node]
}

// host asks the suspect's host and, at the same time, those of others that live and are reached over the network.
func (n *Nodes) host(ctx context.Context, suspect *v1alpha1.StoreNode, all []v1alpha1.StoreNode) nodedeath.Host {
	var asked sync.WaitGroup
	var answered bool
	witnessed := make([]bool, maxWitnesses)
	asked.Go(func() { answered = n.Hosts.Answer(ctx, n.addresses(ctx, suspect)) })
	witness := 0
	for i := range all {
		name := all[i].Name
		state := n.Alive.State(name)
		if name == suspect.Name || name == n.Node || !state.Alive || !state.Heard || witness == maxWitnesses {
			continue
		}
		at := witness
		asked.Go(func() { witnessed[at] = n.Hosts.Answer(ctx, n.addresses(ctx, &all[i])) })
		witness++
	}
	asked.Wait()
	switch {
	case answered:
		return nodedeath.HostAnswers
	case witnessed[0] || witnessed[1]:
		return nodedeath.HostSilent
	}
	return nodedeath.HostUnknown
}

// addresses are the kubelet's and the storenode's.
func (n *Nodes) addresses(ctx context.Context, object *v1alpha1.StoreNode) []string {
	var all []string
	for _, address := range object.Spec.Addresses {
		all = append(all, address)
	}
	var node corev1.Node
	if n.API.Get(ctx, client.ObjectKey{Name: object.Name}, &node) != nil {
		return all // the storenode's address has to do
	}
	port := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP && port > 0 {
			all = append(all, net.JoinHostPort(a.Address, strconv.Itoa(port)))
		}
	}
	return all
}

func (n *Nodes) evacuate(ctx context.Context, node, why string) error {
	done, err := n.Evacuator.Evacuate(ctx, node, why)
	if done.Tainted {
		n.Metrics.DeadNodes.Inc()
		n.Log.Warn("Found node dead", "node", node, "cause", why)
	}
	if len(done.Ended)+len(done.Released) > 0 {
		n.Metrics.EndedPods.Add(float64(len(done.Ended)))
		n.Log.Warn("Evacuated node", "node", node, "endedPods", done.Ended, "releasedVolumes", done.Released)
	}
	return err
}
