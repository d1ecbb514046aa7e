package driver

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/csi/mounter"
)

// validateVolumeAndPath checks what every node call has. The volume id becomes part of paths, so it must be a name.
func validateVolumeAndPath(volume, field, path string) error {
	if volume == "" {
		return status.Error(codes.InvalidArgument, "volume_id is missing")
	}
	if path == "" {
		return status.Errorf(codes.InvalidArgument, "%s is missing", field)
	}
	if err := api.ValidateVolume(volume); err != nil {
		// No such volume can exist, which is what the CSI specification wants to hear.
		return status.Errorf(codes.NotFound, "volume_id: %v", err)
	}
	if !filepath.IsAbs(path) {
		return status.Errorf(codes.InvalidArgument, "%s: %q is not absolute", field, path)
	}
	return nil
}

func validateStage(r staging) error {
	if err := validateVolumeAndPath(r.GetVolumeId(), "staging_target_path", r.GetStagingTargetPath()); err != nil {
		return err
	}
	return validateNodeCapability(r.GetVolumeCapability())
}

func validatePublish(r *csi.NodePublishVolumeRequest) error {
	if err := validateVolumeAndPath(r.GetVolumeId(), "target_path", r.GetTargetPath()); err != nil {
		return err
	}
	if err := validateNodeCapability(r.GetVolumeCapability()); err != nil {
		return err
	}
	if r.GetStagingTargetPath() == "" {
		return status.Error(codes.FailedPrecondition, "staging_target_path is missing: the volume must be staged first")
	}
	return nil
}

// staging is what NodeStageVolume is asked for; NodePublishVolume is told it again.
type staging interface {
	GetVolumeId() string
	GetStagingTargetPath() string
	GetVolumeCapability() *csi.VolumeCapability
	GetPublishContext() map[string]string
}

// validateNodeCapability refuses what this node could not do.
func validateNodeCapability(c *csi.VolumeCapability) error {
	switch {
	case c == nil:
		return status.Error(codes.InvalidArgument, "volume_capability is missing")
	case c.GetBlock() == nil && c.GetMount() == nil:
		return status.Error(codes.InvalidArgument, "volume_capability: neither block nor mount")
	case c.GetMount() != nil && filesystemOf(c.GetMount()) != "ext4" && filesystemOf(c.GetMount()) != "xfs":
		return status.Errorf(codes.InvalidArgument, "volume_capability: fs_type %q is neither ext4 nor xfs",
			c.GetMount().GetFsType())
	}
	return nil
}

func filesystemOf(m *csi.VolumeCapability_MountVolume) string {
	if m.GetFsType() == "" {
		return defaultFilesystem
	}
	return m.GetFsType()
}

// podOf is the part of a target path that is a pod's own, its UID:
//
//	KUBELET/pods/UID/volumes/kubernetes.io~csi/VOLUME/mount
//	KUBELET/plugins/kubernetes.io/csi/volumeDevices/publish/VOLUME/UID
func podOf(target string) string {
	const fromEnd = 6
	parts := strings.Split(target, "/")
	if at := len(parts) - fromEnd; at >= 0 && parts[at] == "pods" {
		return parts[at+1]
	}
	return parts[len(parts)-1]
}

// isOfPod reports whether a mount is for the pod: the kubelet binds the parts of a volume that a pod has by subPath,
// and devices, once more, at paths with its UID.
func isOfPod(target, pod string) bool { return slices.Contains(strings.Split(target, "/"), pod) }

// isReaderOnly reports whether nobody may write through this attachment.
func isReaderOnly(c *csi.VolumeCapability) bool {
	mode := c.GetAccessMode().GetMode()
	return mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY ||
		mode == csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
}

// nodeError gives an error of the initiator or the mounter its gRPC code.
func nodeError(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, mounter.ErrNotBlank) || errors.Is(err, mounter.ErrUnfinished) ||
		errors.Is(err, mounter.ErrFilesystemType) {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(nodeCode(err), err.Error())
}

// nodeCode tells the kubelet above all whether something may be left: with Unavailable, Aborted, Canceled,
// DeadlineExceeded and ResourceExhausted it will unstage a volume even if no pod wants it any more, else not.
func nodeCode(err error) codes.Code {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, api.ErrAway):
		return codes.Unavailable
	}
	return initiatorCode(api.CodeOf(err))
}

func initiatorCode(c api.Code) codes.Code {
	switch c {
	case api.CodeInvalid:
		return codes.InvalidArgument
	case api.CodeBusy:
		return codes.Aborted
	case api.CodeConflict, api.CodeFenced:
		return codes.FailedPrecondition
	case api.CodeUnreachable:
		return codes.Unavailable
	case api.CodeUnknownVolume:
		return codes.NotFound
	case api.CodeLimit:
		return codes.ResourceExhausted
	case api.CodeInternal:
		return codes.Internal
	}
	return codes.Internal
}
