package driver

import (
	"context"
	"errors"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/params"
	"github.com/shale-storage/shale/csi/volumes"
)

const (
	// longestWait bounds a wait whose caller has no deadline.
	longestWait = 30 * time.Second
	// answerTime is left of the caller's deadline to tell it what was waited for; else it learns only that time is up.
	answerTime = time.Second
	// cleanUpTimeout bounds taking back a volume that found no room.
	cleanUpTimeout = 5 * time.Second
)

// Volumes is the Kubernetes API as the controller sees it; *volumes.Client.
type Volumes interface {
	Create(ctx context.Context, v *v1alpha1.Volume) error
	Get(ctx context.Context, name string) (*v1alpha1.Volume, error)
	List(ctx context.Context) ([]v1alpha1.Volume, error)
	Delete(ctx context.Context, name string) error
	TakeBack(ctx context.Context, not *volumes.NotReadyError) error
	WaitReady(ctx context.Context, name string) error
	WaitGone(ctx context.Context, name string) error
	Attach(ctx context.Context, name, node string, readOnly bool) (*v1alpha1.Volume, error)
	Detach(ctx context.Context, name, node string) error
	Addresses(ctx context.Context, node string) ([]string, error)
	Capacity(ctx context.Context, pool string, replicas int32) (int64, error)
}

// Controller is the CSI Controller service: it writes what is wanted into Volume objects and waits until the operator
// has made it so.
//
// It keeps no state. Each call first looks at the object, so it may come again, after any crash, at any controller.
type Controller struct {
	csi.UnimplementedControllerServer
	volumes Volumes
	locks   Locks
}

// NewController makes the service.
func NewController(v Volumes, l Locks) *Controller { return &Controller{volumes: v, locks: l} }

// CreateVolume makes the Volume and waits until it can be used. While it cannot, the answer is DeadlineExceeded and
// the Volume stays, for the call that comes again. Only if there is no room it is taken back: then nobody may ever
// ask again.
func (c *Controller) CreateVolume(
	ctx context.Context, r *csi.CreateVolumeRequest,
) (*csi.CreateVolumeResponse, error) {
	want, err := parseCreate(r)
	if err != nil {
		return nil, invalid(err)
	}
	if err := c.lock(want.id); err != nil {
		return nil, err
	}
	defer c.locks.Release(want.id)
	v, err := c.create(ctx, want)
	if err != nil {
		return nil, controllerError(err)
	}
	waiting, cancel := leaveTimeToAnswer(ctx)
	defer cancel()
	if err := c.volumes.WaitReady(waiting, want.id); err != nil {
		return nil, c.notReady(ctx, err)
	}
	return &csi.CreateVolumeResponse{Volume: csiVolume(v)}, nil
}

// create returns the Volume, which may be there from an earlier call.
func (c *Controller) create(ctx context.Context, want creation) (*v1alpha1.Volume, error) {
	v := want.object()
	err := c.volumes.Create(ctx, v)
	if !errors.Is(err, volumes.ErrExists) {
		return v, err
	}
	if v, err = c.volumes.Get(ctx, want.id); err != nil {
		return nil, err
	}
	if !v.DeletionTimestamp.IsZero() {
		return nil, status.Errorf(codes.Aborted, "volume %s is being deleted", want.id)
	}
	if err := want.matches(v); err != nil {
		return nil, status.Error(codes.AlreadyExists, err.Error())
	}
	return v, nil
}

func (c *Controller) notReady(ctx context.Context, cause error) error {
	not, ok := errors.AsType[*volumes.NotReadyError](cause)
	if ok && not.Reason == v1alpha1.ReasonNoRoom {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		err := c.volumes.TakeBack(last, not)
		switch {
		case apierrors.IsConflict(err):
			// Another controller may have seen it Ready meanwhile and given it away: the next call tells.
			return status.Errorf(codes.Aborted, "%v; and it has changed meanwhile: %v", cause, err)
		case err != nil:
			// Unavailable says that the volume may be left, so that the call comes again.
			return status.Errorf(codes.Unavailable, "%v; taking it back: %v", cause, err)
		}
	}
	return controllerError(cause)
}

// DeleteVolume deletes the Volume and waits until its space is given back.
func (c *Controller) DeleteVolume(
	ctx context.Context, r *csi.DeleteVolumeRequest,
) (*csi.DeleteVolumeResponse, error) {
	if err := checkID(r.GetVolumeId()); err != nil {
		if status.Code(err) == codes.NotFound {
			return &csi.DeleteVolumeResponse{}, nil
		}
		return nil, err
	}
	if err := c.lock(r.GetVolumeId()); err != nil {
		return nil, err
	}
	defer c.locks.Release(r.GetVolumeId())
	if err := c.volumes.Delete(ctx, r.GetVolumeId()); err != nil {
		return nil, controllerError(err)
	}
	waiting, cancel := leaveTimeToAnswer(ctx)
	defer cancel()
	if err := c.volumes.WaitGone(waiting, r.GetVolumeId()); err != nil {
		return nil, controllerError(err)
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ControllerPublishVolume lets a node use the Volume and tells it where the storenodes are.
func (c *Controller) ControllerPublishVolume(
	ctx context.Context, r *csi.ControllerPublishVolumeRequest,
) (*csi.ControllerPublishVolumeResponse, error) {
	if err := checkID(r.GetVolumeId()); err != nil {
		return nil, err
	}
	if r.GetNodeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "node_id is missing")
	}
	if err := checkCapability(r.GetVolumeCapability()); err != nil {
		return nil, invalid(err)
	}
	if r.GetReadonly() && !isReaderOnly(r.GetVolumeCapability()) {
		return nil, status.Error(codes.InvalidArgument, "readonly: needs a reader-only access mode")
	}
	if err := c.lock(r.GetVolumeId()); err != nil {
		return nil, err
	}
	defer c.locks.Release(r.GetVolumeId())
	addresses, err := c.volumes.Addresses(ctx, r.GetNodeId())
	if err != nil {
		return nil, controllerError(err)
	}
	v, err := c.volumes.Attach(ctx, r.GetVolumeId(), r.GetNodeId(), isReaderOnly(r.GetVolumeCapability()))
	if err != nil {
		return nil, controllerError(err)
	}
	if len(addresses) == 0 {
		return nil, status.Error(codes.Unavailable, "no storenode has told its address yet")
	}
	published := publishContext{
		VolumeID: v.Spec.ID, SizeBytes: v.Spec.SizeBytes, Addresses: addresses,
		Generation: uint64(volumes.Attachment(v, r.GetNodeId()).Generation),
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: published.encode()}, nil
}

// ControllerUnpublishVolume ends the use by a node. What it may still send is refused by the storenodes as soon as
// another node has been let in.
func (c *Controller) ControllerUnpublishVolume(
	ctx context.Context, r *csi.ControllerUnpublishVolumeRequest,
) (*csi.ControllerUnpublishVolumeResponse, error) {
	if err := checkID(r.GetVolumeId()); err != nil {
		if status.Code(err) == codes.NotFound {
			return &csi.ControllerUnpublishVolumeResponse{}, nil
		}
		return nil, err
	}
	if err := c.lock(r.GetVolumeId()); err != nil {
		return nil, err
	}
	defer c.locks.Release(r.GetVolumeId())
	if err := c.volumes.Detach(ctx, r.GetVolumeId(), r.GetNodeId()); err != nil {
		return nil, controllerError(err)
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

// ValidateVolumeCapabilities confirms, or says what is not possible.
func (c *Controller) ValidateVolumeCapabilities(
	ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if err := checkID(r.GetVolumeId()); err != nil {
		return nil, err
	}
	if len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "volume_capabilities: are missing")
	}
	if _, err := c.volumes.Get(ctx, r.GetVolumeId()); err != nil {
		return nil, controllerError(err)
	}
	err := checkCapabilities(r.GetVolumeCapabilities())
	if err == nil && len(r.GetParameters()) > 0 {
		_, err = params.Parse(r.GetParameters())
	}
	if err != nil {
		//nolint:nilerr // the refusal is the answer
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(), Parameters: r.GetParameters(),
	}}, nil
}

// lock takes the volume for this call, or answers Aborted.
func (c *Controller) lock(volume string) error {
	if !c.locks.TryAcquire(volume) {
		return status.Errorf(codes.Aborted, "another call is at work on volume %s", volume)
	}
	return nil
}

// leaveTimeToAnswer ends a little before ctx does.
func leaveTimeToAnswer(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, longestWait)
	}
	left := time.Until(deadline)
	return context.WithTimeout(ctx, left-min(answerTime, left/4))
}
