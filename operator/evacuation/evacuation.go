package evacuation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

const (
	// driver is the name of Shale's CSI driver, inUse what begins the names of its volumes in a node's status.
	driver = "csi.shale.dev"
	inUse  = "kubernetes.io/csi/" + driver + "^"
	// maxPods bounds the pods looked at in one call; the kubelet's own bound is 110 by default.
	maxPods = 1000
)

// Evacuator moves pods off dead nodes. All fields must be given. Safe for concurrent use for different nodes.
type Evacuator struct {
	API client.Client
	// Live reads past the cache: pods are looked at only when a node has died.
	Live   client.Reader
	Events events.EventRecorder
}

// Outcome is what was done.
type Outcome struct {
	// Tainted: the node was not known to be dead before.
	Tainted bool
	// Ended are the pods, namespace/name, Released the volumes that were taken off the node.
	Ended, Released []string
}

// Evacuate lets the pods of the node move, because of why. A node that is gone has nothing to move: Kubernetes
// detaches what was attached to it by itself.
func (e *Evacuator) Evacuate(ctx context.Context, node, why string) (Outcome, error) {
	var done Outcome
	var object corev1.Node
	if err := e.Live.Get(ctx, client.ObjectKey{Name: node}, &object); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return done, nil
		}
		return done, fmt.Errorf("get node %s: %w", node, err)
	}
	var err error
	if done.Tainted, err = e.taint(ctx, &object); err != nil {
		return done, err
	}
	if done.Tainted {
		e.Events.Eventf(&object, nil, corev1.EventTypeWarning, v1alpha1.ReasonNodeDead, "Evacuate",
			"%s. Its pods with Shale volumes are ended, so that they run elsewhere", why)
	}
	if done.Released, err = e.release(ctx, &object); err != nil {
		return done, err
	}
	done.Ended, err = e.end(ctx, node, why)
	return done, err
}

// Welcome takes the taint off a node that is back.
func (e *Evacuator) Welcome(ctx context.Context, node *corev1.Node) error {
	if !IsEvacuated(node) {
		return nil
	}
	next := node.DeepCopy()
	next.Spec.Taints = slices.DeleteFunc(next.Spec.Taints, isOurs)
	if err := e.API.Patch(ctx, next, locked(node)); apierrors.IsNotFound(err) {
		return nil // it was deleted meanwhile
	} else if err != nil {
		return fmt.Errorf("untaint node %s: %w", node.Name, err)
	}
	e.Events.Eventf(next, nil, corev1.EventTypeNormal, "NodeBack", "Welcome",
		"The node is back: storenode and kubelet renew their leases; pods may be placed here again")
	return nil
}

// IsEvacuated reports whether the node has our taint.
func IsEvacuated(node *corev1.Node) bool { return slices.ContainsFunc(node.Spec.Taints, isOurs) }

func isOurs(t corev1.Taint) bool { return t.Key == v1alpha1.TaintNodeDead }

// locked is a patch that fails if the object has changed: lists are replaced as a whole.
func locked(base client.Object) client.Patch {
	copied, _ := base.DeepCopyObject().(client.Object)
	return client.MergeFromWithOptions(copied, client.MergeFromWithOptimisticLock{})
}

func (e *Evacuator) taint(ctx context.Context, node *corev1.Node) (bool, error) {
	if IsEvacuated(node) {
		return false, nil
	}
	base := locked(node)
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{
		Key: v1alpha1.TaintNodeDead, Effect: corev1.TaintEffectNoSchedule,
	})
	if err := e.API.Patch(ctx, node, base); err != nil {
		return false, fmt.Errorf("taint node %s: %w", node.Name, err)
	}
	return true, nil
}

// release takes Shale's volumes off the list of those that the kubelet says it uses.
func (e *Evacuator) release(ctx context.Context, node *corev1.Node) ([]string, error) {
	base := locked(node)
	var released []string
	var kept []corev1.UniqueVolumeName
	for _, name := range node.Status.VolumesInUse {
		if volume, ours := strings.CutPrefix(string(name), inUse); ours {
			released = append(released, volume)
		} else {
			kept = append(kept, name)
		}
	}
	if len(released) == 0 {
		return nil, nil
	}
	node.Status.VolumesInUse = kept
	if err := e.API.Status().Patch(ctx, node, base); err != nil {
		return nil, fmt.Errorf("release volumes of node %s: %w", node.Name, err)
	}
	for _, name := range released {
		volume := &v1alpha1.Volume{}
		if e.API.Get(ctx, client.ObjectKey{Name: name}, volume) != nil { // people look for events by the UID
			volume.Name = name
		}
		e.Events.Eventf(volume, node, corev1.EventTypeWarning, v1alpha1.ReasonNodeDead, "Evacuate",
			"Detached from node %s, which is dead; what it may still write is refused once the volume is open elsewhere",
			node.Name)
	}
	return released, nil
}

// end deletes the pods that use Shale's volumes and may move.
func (e *Evacuator) end(ctx context.Context, node, why string) ([]string, error) {
	var list corev1.PodList
	err := e.Live.List(ctx, &list, client.MatchingFields{"spec.nodeName": node}, client.Limit(maxPods))
	if err != nil {
		return nil, fmt.Errorf("list pods of node %s: %w", node, err)
	}
	var ended []string
	var failed []error
	for i := range list.Items {
		pod := &list.Items[i]
		if isEnded(pod) {
			continue
		}
		drivers, err := e.drivers(ctx, pod)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if !movable(pod, drivers) {
			continue
		}
		now := client.GracePeriodSeconds(0)
		same := client.Preconditions{UID: &pod.UID}
		if err := e.API.Delete(ctx, pod, now, same); client.IgnoreNotFound(err) != nil {
			failed = append(failed, fmt.Errorf("end pod %s/%s: %w", pod.Namespace, pod.Name, err))
			continue
		}
		ended = append(ended, pod.Namespace+"/"+pod.Name)
		e.Events.Eventf(pod, nil, corev1.EventTypeWarning, v1alpha1.ReasonNodeDead, "Evacuate",
			"Ended, so that it runs elsewhere: %s", why)
	}
	return ended, errors.Join(failed...)
}

// isEnded reports whether the pod was deleted without grace before: a finalizer holds its object.
func isEnded(pod *corev1.Pod) bool {
	grace := pod.DeletionGracePeriodSeconds
	return pod.DeletionTimestamp != nil && grace != nil && *grace == 0
}

// elsewhere stands for storage whose driver is not known.
const elsewhere = "other"

// drivers are those of the pod's volumes that hold data beyond the node, each once.
func (e *Evacuator) drivers(ctx context.Context, pod *corev1.Pod) ([]string, error) {
	var drivers []string
	for i := range pod.Spec.Volumes {
		d, err := e.driver(ctx, pod, &pod.Spec.Volumes[i])
		if err != nil {
			return nil, err
		}
		if d != "" && !slices.Contains(drivers, d) {
			drivers = append(drivers, d)
		}
	}
	return drivers, nil
}

// driver is empty for what dies with the node.
func (e *Evacuator) driver(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (string, error) {
	var claim string
	switch {
	case v.PersistentVolumeClaim != nil:
		claim = v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		claim = pod.Name + "-" + v.Name
	case v.EmptyDir != nil, v.ConfigMap != nil, v.Secret != nil, v.Projected != nil, v.DownwardAPI != nil,
		v.HostPath != nil, v.Image != nil:
		return "", nil
	default:
		return elsewhere, nil
	}
	var pvc corev1.PersistentVolumeClaim
	err := e.Live.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: claim}, &pvc)
	if err != nil || pvc.Spec.VolumeName == "" {
		return elsewhere, wrap(client.IgnoreNotFound(err), "get claim %s/%s", pod.Namespace, claim)
	}
	var pv corev1.PersistentVolume
	err = e.Live.Get(ctx, types.NamespacedName{Name: pvc.Spec.VolumeName}, &pv)
	if err != nil || pv.Spec.CSI == nil {
		return elsewhere, wrap(client.IgnoreNotFound(err), "get volume of claim %s/%s", pod.Namespace, claim)
	}
	return pv.Spec.CSI.Driver, nil
}

func wrap(err error, format, a, b string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", a, b, err)
}

// movable reports whether the pod is one that the package comment says to end.
func movable(pod *corev1.Pod, drivers []string) bool {
	owned := false
	for _, owner := range pod.OwnerReferences {
		if owner.Controller != nil && *owner.Controller {
			owned = owner.Kind != "DaemonSet" && owner.Kind != "Node"
		}
	}
	return owned && len(drivers) == 1 && drivers[0] == driver
}
