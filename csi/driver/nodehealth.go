package driver

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reasons why a volume cannot be used on this node; people and tools see them in the status of the pod.
const (
	// reasonDeviceLost: the device under the mount is dead for good, and all I/O fails.
	reasonDeviceLost = "DeviceLost"
	// reasonFilesystemFailed: the file system has shut down or turned read-only, as it does after an error of its device;
	// the device itself works.
	reasonFilesystemFailed = "FilesystemFailed"
	// reasonInitiatorAway: I/O waits, or fails if there is no holder either.
	reasonInitiatorAway = "InitiatorAway"
	// reasonFenced: the volume has been attached anew, elsewhere or here, or deleted: all I/O of this attachment fails.
	reasonFenced = "Fenced"
)

// NodeGetVolumeStats tells the space of a file system, or the size of a device. Of one that was lost it tells that:
// what the kernel still knows of it is of no use, and the kubelet asks each minute, so it is in log and metrics.
func (n *Node) NodeGetVolumeStats(
	ctx context.Context, r *csi.NodeGetVolumeStatsRequest,
) (*csi.NodeGetVolumeStatsResponse, error) {
	if p := r.GetVolumePath(); p != "" && r.GetVolumeId() != "" && !filepath.IsAbs(p) {
		return nil, status.Errorf(codes.NotFound, "volume_path: %q is not absolute, so no volume is there", p)
	}
	if err := validateVolumeAndPath(r.GetVolumeId(), "volume_path", r.GetVolumePath()); err != nil {
		return nil, err
	}
	u, err := n.options.Mounter.Usage(r.GetVolumePath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, status.Errorf(codes.NotFound, "volume_path: %v", err)
	}
	health := n.health(ctx, r.GetVolumeId(), r.GetVolumePath())
	switch health.GetReason() {
	case reasonDeviceLost, reasonFenced, reasonFilesystemFailed:
		return nil, status.Error(codes.Internal, health.GetMessage())
	}
	if err != nil {
		return nil, nodeError(err)
	}
	usage := []*csi.VolumeUsage{{
		Unit: csi.VolumeUsage_BYTES, Total: u.TotalBytes, Used: u.UsedBytes, Available: u.AvailableBytes,
	}}
	if !u.Block {
		usage = append(usage, &csi.VolumeUsage{
			Unit: csi.VolumeUsage_INODES, Total: u.TotalInodes, Used: u.UsedInodes, Available: u.AvailableInodes,
		})
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: usage}, nil
}

// NodeGetVolumeHealth tells whether the pod at the path can use the volume. The kubelet shows it in the pod's status,
// if its feature CSIVolumeHealth is on.
func (n *Node) NodeGetVolumeHealth(
	ctx context.Context, r *csi.NodeGetVolumeHealthRequest,
) (*csi.NodeGetVolumeHealthResponse, error) {
	path := cmp.Or(r.GetVolumePublishPath(), r.GetStagingTargetPath())
	// Both may be missing; then there is no mount that could be bad.
	if err := validateVolumeAndPath(r.GetVolumeId(), "volume_publish_path", cmp.Or(path, "/")); err != nil {
		return nil, err
	}
	health := &csi.VolumeHealth{VolumeId: r.GetVolumeId()}
	if entry := n.health(ctx, r.GetVolumeId(), path); entry != nil {
		health.HealthStatuses = append(health.HealthStatuses, entry)
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: health}, nil
}

// health says why what is mounted at path cannot be used; nil if nothing is known to be wrong. The file system itself
// need not notice: it answers from memory after its device has died, so its device is compared with the initiator's.
func (n *Node) health(ctx context.Context, volume, path string) *csi.VolumeHealth_VolumeHealthEntry {
	attached, found, err := n.attachment(ctx, volume)
	if err != nil {
		return inaccessible(reasonInitiatorAway, err.Error())
	}
	if path == "" {
		return nil
	}
	source, err := n.options.Mounter.Source(path)
	if err != nil || source == "" {
		// Nothing is mounted there, such as at the staging path of a device.
		return nil
	}
	alive := found && (source == attached.DevicePath || n.options.Mounter.IsSameDevice(attached.DevicePath, path))
	if !alive {
		return inaccessible(reasonDeviceLost,
			"the device of what is mounted at "+path+" is dead: restart the pods that use volume "+volume+" on this node")
	}
	if attached.Fenced {
		return inaccessible(reasonFenced, "volume "+volume+" has been attached anew or is deleted, and the device of what "+
			"is mounted at "+path+" fails all I/O: end the pods that still use it on this node")
	}
	if failed, err := n.hasFailed(path); failed && err == nil {
		return inaccessible(reasonFilesystemFailed, "the file system mounted at "+path+" has shut down or turned read-only "+
			"after an error: delete the pods that use volume "+volume+" on this node")
	}
	return nil
}

func inaccessible(reason, message string) *csi.VolumeHealth_VolumeHealthEntry {
	return &csi.VolumeHealth_VolumeHealthEntry{
		Status: csi.VolumeHealthErrorType_INACCESSIBLE, Reason: reason, Message: message,
	}
}
