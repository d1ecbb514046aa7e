package driver

import (
	"context"
	"errors"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/params"
	"github.com/shale-storage/shale/csi/volumeid"
	"github.com/shale-storage/shale/csi/volumes"
)

const (
	// tokenPrefix marks our ListVolumes tokens; the name of the last volume told follows.
	tokenPrefix = "after/"
	// maxEntries bounds one page of ListVolumes.
	maxEntries = 1000
)

// ControllerGetCapabilities lists what is implemented here, and nothing else.
func (c *Controller) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	out := &csi.ControllerGetCapabilitiesResponse{}
	for _, kind := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_GET_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		out.Capabilities = append(out.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: kind}},
		})
	}
	return out, nil
}

// ListVolumes tells a page of all volumes, by name. A volume that comes or goes between two pages disturbs no other.
func (c *Controller) ListVolumes(
	ctx context.Context, r *csi.ListVolumesRequest,
) (*csi.ListVolumesResponse, error) {
	if r.GetMaxEntries() < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "max_entries %d is negative", r.GetMaxEntries())
	}
	after, ok := strings.CutPrefix(r.GetStartingToken(), tokenPrefix)
	if r.GetStartingToken() != "" && (!ok || !volumeid.IsValid(after)) {
		return nil, status.Errorf(codes.Aborted, "starting_token %.128q is not one of ours", r.GetStartingToken())
	}
	all, err := c.volumes.List(ctx)
	if err != nil {
		return nil, controllerError(err)
	}
	page := maxEntries
	if n := int(r.GetMaxEntries()); n > 0 {
		page = min(n, maxEntries)
	}
	out := &csi.ListVolumesResponse{}
	for i := range all {
		if all[i].Name <= after {
			continue
		}
		if len(out.GetEntries()) == page {
			out.NextToken = tokenPrefix + out.GetEntries()[page-1].GetVolume().GetVolumeId()
			break
		}
		out.Entries = append(out.Entries, &csi.ListVolumesResponse_Entry{
			Volume: csiVolume(&all[i]),
			Status: &csi.ListVolumesResponse_VolumeStatus{
				PublishedNodeIds: nodesOf(&all[i]),
			},
		})
	}
	return out, nil
}

// ControllerGetVolume tells of one volume.
func (c *Controller) ControllerGetVolume(
	ctx context.Context, r *csi.ControllerGetVolumeRequest,
) (*csi.ControllerGetVolumeResponse, error) {
	if err := checkID(r.GetVolumeId()); err != nil {
		return nil, err
	}
	v, err := c.volumes.Get(ctx, r.GetVolumeId())
	if err != nil {
		return nil, controllerError(err)
	}
	return &csi.ControllerGetVolumeResponse{
		Volume: csiVolume(v),
		Status: &csi.ControllerGetVolumeResponse_VolumeStatus{
			PublishedNodeIds: nodesOf(v),
		},
	}, nil
}

// GetCapacity tells the largest volume that could be made with the parameters now; without any, the largest at all.
func (c *Controller) GetCapacity(
	ctx context.Context, r *csi.GetCapacityRequest,
) (*csi.GetCapacityResponse, error) {
	if len(r.GetVolumeCapabilities()) > 0 && checkCapabilities(r.GetVolumeCapabilities()) != nil {
		return &csi.GetCapacityResponse{}, nil //nolint:nilerr // of what cannot be had there is room for none
	}
	if !reaches(r.GetAccessibleTopology()) {
		return &csi.GetCapacityResponse{}, nil
	}
	var p params.Volume
	var err error
	if len(r.GetParameters()) > 0 {
		if p, err = params.Parse(r.GetParameters()); err != nil {
			return nil, invalid(err)
		}
	}
	bytes, err := c.volumes.Capacity(ctx, p.Pool, p.Replicas)
	if errors.Is(err, volumes.ErrNotFound) {
		// After an error the provisioner would go on telling the scheduler of the room there was.
		return &csi.GetCapacityResponse{}, nil
	}
	if err != nil {
		return nil, controllerError(err)
	}
	return &csi.GetCapacityResponse{AvailableCapacity: bytes / params.BlockSize * params.BlockSize}, nil
}

func csiVolume(v *v1alpha1.Volume) *csi.Volume {
	return &csi.Volume{VolumeId: v.Name, CapacityBytes: v.Spec.SizeBytes, AccessibleTopology: accessible()}
}

func nodesOf(v *v1alpha1.Volume) []string {
	var nodes []string
	for _, a := range v.Spec.Attachments {
		nodes = append(nodes, a.NodeName)
	}
	return nodes
}
