package driver

import (
	"context"
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/volumes"
)

// controllerError gives an error of the volumes its gRPC code. The whole chain is the message: it becomes an event of
// the claim or the pod.
func controllerError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(controllerCode(err), err.Error())
}

func controllerCode(err error) codes.Code {
	if not, ok := errors.AsType[*volumes.NotReadyError](err); ok {
		// Kubernetes asks again after either; ResourceExhausted lets the scheduler think of another place as well.
		if not.Reason == v1alpha1.ReasonNoRoom {
			return codes.ResourceExhausted
		}
		return codes.DeadlineExceeded
	}
	if _, ok := errors.AsType[*volumes.AttachedError](err); ok {
		return codes.FailedPrecondition
	}
	switch {
	case errors.Is(err, volumes.ErrNotFound):
		return codes.NotFound
	case errors.Is(err, volumes.ErrExists), errors.Is(err, volumes.ErrIncompatible):
		return codes.AlreadyExists
	case errors.Is(err, volumes.ErrGoing), apierrors.IsConflict(err):
		return codes.Aborted
	case apierrors.IsInvalid(err):
		return codes.InvalidArgument
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case mayBeDone(err):
		return codes.Unavailable
	}
	return codes.Internal
}

// mayBeDone reports whether it is open what has become of a call of the API server: it failed itself, its answer did
// not arrive, or our own limit of calls ended the wait for one. The provisioner goes on after Unavailable, however
// long; after Internal it takes the volume for never made, and if the claim goes, nobody deletes the volume.
func mayBeDone(err error) bool {
	refused, answered := errors.AsType[*apierrors.StatusError](err)
	if !answered {
		return true
	}
	code := refused.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
}
