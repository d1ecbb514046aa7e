package driver

import (
	"context"
	"slices"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/csi/mounter"
)

const (
	// defaultFilesystem is used when the capability names none.
	defaultFilesystem = "ext4"
	// takeBackTimeout bounds detaching what could not be mounted.
	takeBackTimeout = 30 * time.Second
)

// Initiator is the process that makes devices; *api.Client.
type Initiator interface {
	Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error)
	Detach(ctx context.Context, volume string) error
	// List is what is attached and still there; with a volume, others may be left out.
	List(ctx context.Context, volume string) ([]api.Attachment, error)
}

// Mounter is what the node does with file systems; *mounter.Mounter.
type Mounter interface {
	MountFilesystem(f mounter.Filesystem) error
	BindDirectory(source, target string, options []string) error
	BindDevice(source, target string, options []string) error
	Source(target string) (string, error)
	IsReadOnly(target string) (bool, error)
	TurnedReadOnly(target string) (bool, error)
	Targets(device string) ([]string, error)
	IsCorrupted(target string) bool
	IsSameDevice(a, b string) bool
	Unmount(target string) error
	Usage(path string) (mounter.Usage, error)
}

// Locks holds the volumes at which a call is at work; *keylock.Locks.
type Locks interface {
	TryAcquire(key string) bool
	Release(key string)
}

// NodeOptions of NewNode. All but Topology are required.
type NodeOptions struct {
	// Node is the name of this node, which is its CSI node id.
	Node string
	// MaxVolumes bounds the volumes that the scheduler puts on this node.
	MaxVolumes int64
	// Topology of this node; nil tells none.
	Topology  map[string]string
	Initiator Initiator
	Mounter   Mounter
	Locks     Locks
}

// Node is the CSI Node service: it asks the initiator for devices and mounts them where the kubelet wants them.
//
// It keeps no state: what is attached the initiator knows, what is mounted the kernel. Each call looks first, so it may
// come again, after any crash.
type Node struct {
	csi.UnimplementedNodeServer
	options NodeOptions
}

// NewNode makes the service.
func NewNode(o NodeOptions) *Node { return &Node{options: o} }

// NodeStageVolume attaches the device and, for a file system, mounts it at the staging path.
func (n *Node) NodeStageVolume(
	ctx context.Context, r *csi.NodeStageVolumeRequest,
) (*csi.NodeStageVolumeResponse, error) {
	if err := validateStage(r); err != nil {
		return nil, err
	}
	if err := n.lock(r.GetVolumeId()); err != nil {
		return nil, err
	}
	defer n.options.Locks.Release(r.GetVolumeId())
	if _, err := n.stage(ctx, r); err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// stage does what is not done yet.
func (n *Node) stage(ctx context.Context, r staging) (api.Attachment, error) {
	published, err := decodePublishContext(r.GetPublishContext())
	if err != nil {
		return api.Attachment{}, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := n.leaveOlder(ctx, r, published.Generation); err != nil {
		return api.Attachment{}, nodeError(err)
	}
	readOnly := isReaderOnly(r.GetVolumeCapability())
	attached, err := n.options.Initiator.Attach(ctx, api.AttachRequest{
		Volume: r.GetVolumeId(), ID: published.VolumeID, SizeBytes: published.SizeBytes,
		Generation: published.Generation, ReadOnly: readOnly, Addresses: published.Addresses,
	})
	if err != nil {
		return api.Attachment{}, nodeError(err)
	}
	if mount := r.GetVolumeCapability().GetMount(); mount != nil {
		f := mounter.Filesystem{
			Device: attached.DevicePath, Target: r.GetStagingTargetPath(), Type: filesystemOf(mount),
			Flags: mount.GetMountFlags(), ReadOnly: readOnly,
		}
		if err := n.stageFilesystem(f); err != nil {
			return api.Attachment{}, n.takeBack(ctx, r.GetVolumeId(), attached.DevicePath, nodeError(err))
		}
	}
	return attached, nil
}

// leaveOlder unmounts the staging path if it shows the device of an earlier attachment, as on a node that was cut off
// while its volumes moved: the initiator makes the next device only after the end of that one, and a mount keeps it. A
// pod that still has it must end first.
func (n *Node) leaveOlder(ctx context.Context, r staging, generation uint64) error {
	attached, found, err := n.attachment(ctx, r.GetVolumeId())
	if err != nil || !found || attached.Generation >= generation {
		return err
	}
	targets, err := n.options.Mounter.Targets(attached.DevicePath)
	if err != nil || len(targets) == 0 {
		return err
	}
	if pods := others(targets, r.GetStagingTargetPath()); len(pods) > 0 {
		return status.Errorf(codes.Aborted, "volume %s is attached anew, and a pod still has the device of the former "+
			"attachment at %s: it must end first", r.GetVolumeId(), pods[0])
	}
	return n.options.Mounter.Unmount(r.GetStagingTargetPath())
}

// others are the targets beside the staging path.
func others(targets []string, staging string) []string {
	return slices.DeleteFunc(targets, func(t string) bool { return t == staging })
}

// takeBack detaches a device that could not be mounted, and returns the cause. To the kubelet most errors say that
// nothing is left, so that it never unstages; a device would stay for ever. One that is mounted somewhere is in use.
func (n *Node) takeBack(ctx context.Context, volume, device string, cause error) error {
	targets, err := n.options.Mounter.Targets(device)
	if err == nil && len(targets) > 0 {
		return cause
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTimeout)
	defer cancel()
	if err == nil {
		err = n.options.Initiator.Detach(last, volume)
	}
	if err != nil {
		// Unavailable says that something may be left.
		return status.Errorf(codes.Unavailable, "%s; and the device stays: %v", status.Convert(cause).Message(), err)
	}
	return cause
}

// stageFilesystem mounts f unless it is mounted. What another device or a dead one left at the target is unmounted, and
// so is a file system that has failed.
func (n *Node) stageFilesystem(f mounter.Filesystem) error {
	source, err := n.options.Mounter.Source(f.Target)
	if err != nil {
		return err
	}
	if source == f.Device {
		failed, err := n.hasFailed(f.Target)
		if err == nil && failed {
			err = n.checkLeft(f)
		}
		if err != nil || !failed {
			return err
		}
	}
	if source != "" {
		if err := n.options.Mounter.Unmount(f.Target); err != nil {
			return err
		}
	}
	return n.options.Mounter.MountFilesystem(f)
}

// hasFailed reports whether the file system at path is of no use any more, be its device well: after an error of its
// device xfs shuts down, and ext4 turns read-only. Only one that is mounted anew works again.
func (n *Node) hasFailed(path string) (bool, error) {
	if n.options.Mounter.IsCorrupted(path) {
		return true, nil
	}
	return n.options.Mounter.TurnedReadOnly(path)
}

// checkLeft says that a file system that has failed cannot be mounted anew yet, because a pod still has it: the kernel
// would give the same one again.
func (n *Node) checkLeft(f mounter.Filesystem) error {
	targets, err := n.options.Mounter.Targets(f.Device)
	if err != nil {
		return err
	}
	if pods := others(targets, f.Target); len(pods) > 0 {
		return status.Errorf(codes.Aborted, "the file system of %s has failed and must be mounted anew, and a pod still has "+
			"it at %s: it must end first", f.Device, pods[0])
	}
	return nil
}

// NodeUnstageVolume unmounts the staging path and detaches the device.
func (n *Node) NodeUnstageVolume(
	ctx context.Context, r *csi.NodeUnstageVolumeRequest,
) (*csi.NodeUnstageVolumeResponse, error) {
	if err := validateVolumeAndPath(r.GetVolumeId(), "staging_target_path", r.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	if err := n.lock(r.GetVolumeId()); err != nil {
		return nil, err
	}
	defer n.options.Locks.Release(r.GetVolumeId())
	source, err := n.options.Mounter.Source(r.GetStagingTargetPath())
	if err != nil {
		return nil, nodeError(err)
	}
	// The staging directory itself is the kubelet's; it is removed only together with a mount of ours.
	if source != "" {
		if err := n.options.Mounter.Unmount(r.GetStagingTargetPath()); err != nil {
			return nil, nodeError(err)
		}
	}
	if err := n.options.Initiator.Detach(ctx, r.GetVolumeId()); err != nil {
		return nil, nodeError(err)
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume shows the staged file system, or the device, at the target path.
func (n *Node) NodePublishVolume(
	ctx context.Context, r *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	if err := validatePublish(r); err != nil {
		return nil, err
	}
	if err := n.lock(r.GetVolumeId()); err != nil {
		return nil, err
	}
	defer n.options.Locks.Release(r.GetVolumeId())
	attached, err := n.staged(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := n.checkOnlyTarget(attached.DevicePath, r); err != nil {
		return nil, nodeError(err)
	}
	if r.GetVolumeCapability().GetBlock() != nil {
		err = n.publishDevice(attached.DevicePath, r)
	} else {
		err = n.publishFilesystem(attached.DevicePath, r)
	}
	if err != nil {
		return nil, nodeError(err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// checkOnlyTarget keeps a volume that only one pod may use (ReadWriteOncePod) from a second one.
func (n *Node) checkOnlyTarget(device string, r *csi.NodePublishVolumeRequest) error {
	mode := r.GetVolumeCapability().GetAccessMode().GetMode()
	if mode != csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		return nil
	}
	targets, err := n.options.Mounter.Targets(device)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if t != r.GetStagingTargetPath() && !isOfPod(t, podOf(r.GetTargetPath())) {
			return status.Errorf(codes.FailedPrecondition, "volume %s is in use at %s, and only one pod may use it",
				r.GetVolumeId(), t)
		}
	}
	return nil
}

// staged is the device of a staged volume. If it has been lost since, with the initiator and its holder, or is that of
// an earlier attachment, or its file system has failed, the volume is staged anew: the kubelet would not do that as
// long as any pod on this node wants the volume, be it only the next one.
func (n *Node) staged(ctx context.Context, r *csi.NodePublishVolumeRequest) (api.Attachment, error) {
	attached, found, err := n.attachment(ctx, r.GetVolumeId())
	if err != nil {
		return api.Attachment{}, nodeError(err)
	}
	current, err := isCurrent(attached, r)
	if err != nil {
		return api.Attachment{}, err
	}
	usable := found && current
	if usable && r.GetVolumeCapability().GetBlock() != nil {
		return attached, nil
	}
	source, err := n.options.Mounter.Source(r.GetStagingTargetPath())
	if err != nil {
		return api.Attachment{}, nodeError(err)
	}
	if usable && source == attached.DevicePath {
		if failed, err := n.hasFailed(r.GetStagingTargetPath()); err != nil || !failed {
			return attached, err
		}
	}
	if len(r.GetPublishContext()) == 0 {
		return api.Attachment{}, status.Errorf(codes.FailedPrecondition, "volume %s is not staged at %s",
			r.GetVolumeId(), r.GetStagingTargetPath())
	}
	if err := validateStage(r); err != nil {
		return api.Attachment{}, err
	}
	return n.stage(ctx, r)
}

// isCurrent reports whether a is of the attachment that r is for. The generation of one does not change with the lives
// of its initiator. A caller that tells no publish context has staged the volume just now.
func isCurrent(a api.Attachment, r *csi.NodePublishVolumeRequest) (bool, error) {
	if len(r.GetPublishContext()) == 0 {
		return true, nil
	}
	published, err := decodePublishContext(r.GetPublishContext())
	if err != nil {
		return false, status.Error(codes.InvalidArgument, err.Error())
	}
	return a.Generation == published.Generation, nil
}

// attachment is what the initiator has of the volume.
func (n *Node) attachment(ctx context.Context, volume string) (a api.Attachment, found bool, err error) {
	all, err := n.options.Initiator.List(ctx, volume)
	if err != nil {
		return api.Attachment{}, false, err
	}
	at := slices.IndexFunc(all, func(a api.Attachment) bool { return a.Volume == volume })
	if at < 0 {
		return api.Attachment{}, false, nil
	}
	return all[at], true, nil
}

func (n *Node) publishDevice(device string, r *csi.NodePublishVolumeRequest) error {
	target := r.GetTargetPath()
	source, err := n.options.Mounter.Source(target)
	if err != nil {
		return err
	}
	if source != "" {
		done := n.options.Mounter.IsSameDevice(device, target)
		if done, err = n.isFinished(done, r); done || err != nil {
			return err
		}
		if err := n.options.Mounter.Unmount(target); err != nil {
			return err
		}
	}
	return n.options.Mounter.BindDevice(device, target, bindOptions(r))
}

func (n *Node) publishFilesystem(device string, r *csi.NodePublishVolumeRequest) error {
	target := r.GetTargetPath()
	source, err := n.options.Mounter.Source(target)
	if err != nil {
		return err
	}
	done := source == device && !n.options.Mounter.IsCorrupted(target)
	if done, err = n.isFinished(done, r); done || err != nil {
		return err
	}
	if source != "" {
		if err := n.options.Mounter.Unmount(target); err != nil {
			return err
		}
	}
	return n.options.Mounter.BindDirectory(r.GetStagingTargetPath(), target, bindOptions(r))
}

// isFinished reports whether what is bound at the target is as r wants it. Who died between a bind and its options has
// left a mount that can be written.
func (n *Node) isFinished(bound bool, r *csi.NodePublishVolumeRequest) (bool, error) {
	if !bound || len(bindOptions(r)) == 0 {
		return bound, nil
	}
	return n.options.Mounter.IsReadOnly(r.GetTargetPath())
}

// bindOptions add what the pod wants to what the staged mount has.
func bindOptions(r *csi.NodePublishVolumeRequest) []string {
	if r.GetReadonly() || isReaderOnly(r.GetVolumeCapability()) {
		return []string{"ro"}
	}
	return nil
}

// NodeUnpublishVolume undoes NodePublishVolume.
func (n *Node) NodeUnpublishVolume(
	_ context.Context, r *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := validateVolumeAndPath(r.GetVolumeId(), "target_path", r.GetTargetPath()); err != nil {
		return nil, err
	}
	if err := n.lock(r.GetVolumeId()); err != nil {
		return nil, err
	}
	defer n.options.Locks.Release(r.GetVolumeId())
	if err := n.options.Mounter.Unmount(r.GetTargetPath()); err != nil {
		return nil, nodeError(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeGetInfo names this node.
func (n *Node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	info := &csi.NodeGetInfoResponse{NodeId: n.options.Node, MaxVolumesPerNode: n.options.MaxVolumes}
	if len(n.options.Topology) > 0 {
		info.AccessibleTopology = &csi.Topology{Segments: n.options.Topology}
	}
	return info, nil
}

// NodeGetCapabilities lists what is implemented here, and nothing else.
func (n *Node) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	out := &csi.NodeGetCapabilitiesResponse{}
	for _, kind := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		out.Capabilities = append(out.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: kind}},
		})
	}
	return out, nil
}

// lock takes the volume for this call, or answers Aborted: the kubelet tries again, and waiting calls would pile up.
func (n *Node) lock(volume string) error {
	if !n.options.Locks.TryAcquire(volume) {
		return status.Errorf(codes.Aborted, "another call is at work on volume %s", volume)
	}
	return nil
}
