package volumes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
)

const (
	// transportTCP is the key of StoreNode addresses that an initiator starts with.
	transportTCP = "tcp"
	// maxAddresses bounds the storenodes an initiator is told of. Each knows the map of every Volume.
	maxAddresses = 16
)

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	// ErrGoing: the Volume is being deleted.
	ErrGoing = errors.New("is being deleted")
	// ErrMayHaveData: the Volume has been attached before.
	ErrMayHaveData = errors.New("was attached before, and may have data")
	// ErrIncompatible: the node has the Volume in another way.
	ErrIncompatible = errors.New("is attached to this node in another mode")
)

// AttachedError says which node has the Volume.
type AttachedError struct{ Volume, Node string }

// Error names the node.
func (e *AttachedError) Error() string {
	return fmt.Sprintf("volume %s is attached to node %s", e.Volume, e.Node)
}

// Client reads and writes the objects.
type Client struct {
	api client.Client
}

// New uses api, which must know v1alpha1 and corev1. It should not cache: a Volume just made must be seen at once.
func New(api client.Client) *Client { return &Client{api: api} }

// Create makes the Volume, or says ErrExists.
func (c *Client) Create(ctx context.Context, v *v1alpha1.Volume) error {
	err := c.api.Create(ctx, v)
	if apierrors.IsAlreadyExists(err) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	return nil
}

// Get reads the Volume.
func (c *Client) Get(ctx context.Context, name string) (*v1alpha1.Volume, error) {
	v := &v1alpha1.Volume{}
	if err := c.get(ctx, name, v); err != nil {
		return nil, fmt.Errorf("get volume %s: %w", name, err)
	}
	return v, nil
}

func (c *Client) get(ctx context.Context, name string, into client.Object) error {
	err := c.api.Get(ctx, client.ObjectKey{Name: name}, into)
	if apierrors.IsNotFound(err) {
		return ErrNotFound
	}
	return err
}

// List is all Volumes by name.
func (c *Client) List(ctx context.Context) ([]v1alpha1.Volume, error) {
	var list v1alpha1.VolumeList
	if err := c.api.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return list.Items, nil
}

// Delete asks that the Volume go. One that is not there is no error, one that a node has is an *AttachedError.
func (c *Client) Delete(ctx context.Context, name string) error {
	v, err := c.Get(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case len(v.Spec.Attachments) > 0:
		return fmt.Errorf("delete: %w", &AttachedError{Volume: name, Node: v.Spec.Attachments[0].NodeName})
	}
	return c.deleteSeen(ctx, v)
}

// TakeBack deletes a Volume that is not ready, as it was when it said so: by now it may be, and somebody may have been
// told that it is his.
func (c *Client) TakeBack(ctx context.Context, not *NotReadyError) error {
	switch {
	case not.seen == nil:
		return nil
	case not.seen.Spec.AttachGeneration > 0:
		return fmt.Errorf("volume %s %w", not.Volume, ErrMayHaveData)
	}
	return c.deleteSeen(ctx, not.seen)
}

// deleteSeen deletes v unless it has changed since it was read, such as by an attachment: that changes its
// resourceVersion.
func (c *Client) deleteSeen(ctx context.Context, v *v1alpha1.Volume) error {
	seen := client.Preconditions{UID: &v.UID, ResourceVersion: &v.ResourceVersion}
	if err := client.IgnoreNotFound(c.api.Delete(ctx, v, seen)); err != nil {
		return fmt.Errorf("delete volume %s: %w", v.Name, err)
	}
	return nil
}

// Attach lets the node use the Volume and says how. Repeated, it says the same.
func (c *Client) Attach(ctx context.Context, name, node string, readOnly bool) (*v1alpha1.Volume, error) {
	if err := c.get(ctx, node, &corev1.Node{}); err != nil {
		return nil, fmt.Errorf("get node %s: %w", node, err)
	}
	return c.update(ctx, name, func(v *v1alpha1.Volume) (bool, error) { return attach(v, node, readOnly) })
}

// Detach ends the use by the node, or by all if node is empty. What is not attached, or not there, is no error.
func (c *Client) Detach(ctx context.Context, name, node string) error {
	_, err := c.update(ctx, name, func(v *v1alpha1.Volume) (bool, error) { return detach(v, node), nil })
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// update changes the Volume by compare-and-swap; a change that says false writes nothing.
func (c *Client) update(
	ctx context.Context, name string, change func(*v1alpha1.Volume) (bool, error),
) (v *v1alpha1.Volume, err error) {
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if v, err = c.Get(ctx, name); err != nil {
			return err
		}
		changed, err := change(v)
		if err != nil || !changed {
			return err
		}
		return c.api.Update(ctx, v)
	})
	if err != nil {
		return nil, fmt.Errorf("update volume %s: %w", name, err)
	}
	return v, nil
}

// Attachment is what v says of node, nil if it has nothing.
func Attachment(v *v1alpha1.Volume, node string) *v1alpha1.VolumeAttachment {
	for i := range v.Spec.Attachments {
		if v.Spec.Attachments[i].NodeName == node {
			return &v.Spec.Attachments[i]
		}
	}
	return nil
}

func attach(v *v1alpha1.Volume, node string, readOnly bool) (changed bool, err error) {
	if have := Attachment(v, node); have != nil {
		if have.ReadOnly != readOnly {
			return false, ErrIncompatible
		}
		return false, nil
	}
	if !v.DeletionTimestamp.IsZero() {
		return false, ErrGoing
	}
	for _, other := range v.Spec.Attachments {
		if !readOnly || !other.ReadOnly {
			return false, &AttachedError{Volume: v.Name, Node: other.NodeName}
		}
	}
	// Whoever is attached here is a reader beside this reader: see the package comment.
	if len(v.Spec.Attachments) == 0 {
		v.Spec.AttachGeneration += v1alpha1.AttachGenerationStep
	}
	v.Spec.Attachments = append(v.Spec.Attachments, v1alpha1.VolumeAttachment{
		NodeName: node, Generation: v.Spec.AttachGeneration, ReadOnly: readOnly,
	})
	return true, nil
}

func detach(v *v1alpha1.Volume, node string) (changed bool) {
	before := len(v.Spec.Attachments)
	v.Spec.Attachments = slices.DeleteFunc(v.Spec.Attachments, func(a v1alpha1.VolumeAttachment) bool {
		return node == "" || a.NodeName == node
	})
	return len(v.Spec.Attachments) != before
}

// Addresses are storenodes at which an initiator may begin: the one on its own node first, those known to be away last,
// for the node keeps them as long as the attachment lasts.
func (c *Client) Addresses(ctx context.Context, node string) ([]string, error) {
	var list v1alpha1.StoreNodeList
	if err := c.api.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list storenodes: %w", err)
	}
	rank := func(s *v1alpha1.StoreNode) int {
		switch {
		case s.Name == node:
			return 0
		case meta.IsStatusConditionFalse(s.Status.Conditions, v1alpha1.ConditionReady):
			return 2
		}
		return 1
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.StoreNode) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), cmp.Compare(a.Name, b.Name))
	})
	var addresses []string
	for i := range list.Items {
		if at := list.Items[i].Spec.Addresses[transportTCP]; at != "" && len(addresses) < maxAddresses {
			addresses = append(addresses, at)
		}
	}
	return addresses, nil
}
