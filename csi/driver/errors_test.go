package driver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shale-storage/shale/csi/volumes"
)

func TestACallThatMayHaveBeenCarriedOutIsNotCalledFailed(t *testing.T) {
	kind := schema.GroupResource{Group: "shale.dev", Resource: "volumes"}
	lost := &url.Error{Op: "Get", URL: "https://x", Err: syscall.ECONNREFUSED}
	timeout := &url.Error{Op: "Get", URL: "https://x", Err: context.DeadlineExceeded}
	etcd := apierrors.NewGenericServerResponse(http.StatusInternalServerError, "post", kind, "v", "etcdserver", 0, true)
	for want, causes := range map[codes.Code][]error{
		codes.Unavailable: {
			lost, apierrors.NewInternalError(errors.New("etcdserver: request timed out")), etcd,
			apierrors.NewTooManyRequests("wait", 1), apierrors.NewServiceUnavailable("starting"),
			errors.New("client rate limiter Wait returned an error: would exceed context deadline"),
		},
		codes.DeadlineExceeded: {timeout, apierrors.NewTimeoutError("slow", 1)},
		codes.Internal:         {apierrors.NewForbidden(kind, "v", errors.New("no"))},
		codes.Aborted:          {apierrors.NewConflict(kind, "v", errors.New("changed"))},
		codes.NotFound:         {volumes.ErrNotFound},
	} {
		for _, cause := range causes {
			wantStatus(t, cause.Error(), controllerError(fmt.Errorf("create volume v: %w", cause)), want)
		}
	}
}
