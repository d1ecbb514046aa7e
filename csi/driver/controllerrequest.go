package driver

import (
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/params"
	"github.com/shale-storage/shale/csi/volumeid"
)

// What people and tools find on a Volume about whom it is for.
const (
	annotationName  = "csi.shale.dev/name"
	annotationClaim = "csi.shale.dev/claim"
	labelNamespace  = "csi.shale.dev/claim-namespace"
)

// supportedModes are the access modes that keep their promise here. More than one writer needs a storenode that takes
// more than one generation at a time.
var supportedModes = []csi.VolumeCapability_AccessMode_Mode{
	csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
	csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
	csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
}

// creation is a CreateVolumeRequest that was understood.
type creation struct {
	id              string
	volume          params.Volume
	size            int64
	required, limit int64
	name            string
}

// parseCreate says what is wrong by the name of the field.
func parseCreate(r *csi.CreateVolumeRequest) (creation, error) {
	id, err := volumeid.FromName(r.GetName())
	if err != nil {
		return creation{}, err
	}
	if err := checkCapabilities(r.GetVolumeCapabilities()); err != nil {
		return creation{}, err
	}
	if !slices.ContainsFunc(r.GetVolumeCapabilities(), func(c *csi.VolumeCapability) bool { return !isReaderOnly(c) }) {
		return creation{}, fmt.Errorf("volume_capabilities: a new volume that nobody may write to is of no use")
	}
	if r.GetVolumeContentSource() != nil {
		return creation{}, fmt.Errorf("volume_content_source: snapshots and clones are not supported")
	}
	if len(r.GetMutableParameters()) > 0 {
		return creation{}, fmt.Errorf("mutable_parameters: are not supported")
	}
	if !anyReaches(r.GetAccessibilityRequirements()) {
		return creation{}, status.Errorf(codes.ResourceExhausted,
			"accessibility_requirements: volumes can be used only where %s is %s", TopologyKey, TopologyValue)
	}
	p, err := params.Parse(r.GetParameters())
	if err != nil {
		return creation{}, err
	}
	want := r.GetCapacityRange()
	size, err := p.Size(want.GetRequiredBytes(), want.GetLimitBytes())
	if err != nil {
		return creation{}, status.Error(codes.OutOfRange, err.Error())
	}
	if size < params.MinXFSSize && slices.ContainsFunc(r.GetVolumeCapabilities(), isXFS) {
		// It would be bound, and could never be mounted.
		return creation{}, status.Errorf(codes.OutOfRange, "capacity_range: a volume of %d bytes is too small for xfs, "+
			"which needs %d", size, params.MinXFSSize)
	}
	return creation{
		id: id, volume: p, size: size, required: want.GetRequiredBytes(), limit: want.GetLimitBytes(), name: r.GetName(),
	}, nil
}

func isXFS(c *csi.VolumeCapability) bool { return c.GetMount().GetFsType() == "xfs" }

// object is the Volume to be made.
func (c creation) object() *v1alpha1.Volume {
	claim := c.volume.Claim
	v := &v1alpha1.Volume{
		ObjectMeta: metav1.ObjectMeta{Name: c.id, Annotations: map[string]string{annotationName: c.name}},
		Spec: v1alpha1.VolumeSpec{
			ID: uuid.NewString(), SizeBytes: c.size, PoolName: c.volume.Pool, Replicas: c.volume.Replicas,
			MinInSync: c.volume.MinInSync, ShardSizeBytes: c.volume.ShardSizeBytes,
		},
	}
	if claim.Name != "" {
		v.Annotations[annotationClaim] = claim.Namespace + "/" + claim.Name
	}
	if volumeid.IsValid(claim.Namespace) {
		v.Labels = map[string]string{labelNamespace: claim.Namespace}
	}
	return v
}

// matches says how an existing Volume differs from what is asked for.
func (c creation) matches(v *v1alpha1.Volume) error {
	s := v.Spec
	switch {
	case s.SizeBytes < c.required || c.limit > 0 && s.SizeBytes > c.limit:
		return fmt.Errorf("volume %s exists with %d bytes", c.id, s.SizeBytes)
	case s.PoolName != c.volume.Pool:
		return fmt.Errorf("volume %s exists in pool %s", c.id, s.PoolName)
	case s.Replicas != c.volume.Replicas:
		return fmt.Errorf("volume %s exists with %d replicas", c.id, s.Replicas)
	case s.MinInSync != c.volume.MinInSync:
		return fmt.Errorf("volume %s exists with minInSync %d", c.id, s.MinInSync)
	case s.ShardSizeBytes != c.volume.ShardSizeBytes:
		return fmt.Errorf("volume %s exists with shards of %d bytes", c.id, s.ShardSizeBytes)
	}
	return nil
}

func checkCapabilities(all []*csi.VolumeCapability) error {
	if len(all) == 0 {
		return fmt.Errorf("volume_capabilities: are missing")
	}
	for _, c := range all {
		if err := checkCapability(c); err != nil {
			return err
		}
	}
	return nil
}

// checkCapability says why a volume cannot be used so.
func checkCapability(c *csi.VolumeCapability) error {
	if err := validateNodeCapability(c); err != nil {
		return fmt.Errorf("%s", status.Convert(err).Message())
	}
	if mode := c.GetAccessMode().GetMode(); !slices.Contains(supportedModes, mode) {
		return fmt.Errorf("volume_capability: access mode %s is not supported", mode)
	}
	return nil
}

// invalid answers a request that no repetition makes better; an error that has a code of its own keeps it.
func invalid(err error) error {
	if _, coded := status.FromError(err); coded {
		return err
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

// checkID answers a volume id that is missing, or that no volume can have.
func checkID(id string) error {
	if id == "" {
		return status.Error(codes.InvalidArgument, "volume_id is missing")
	}
	if !volumeid.IsValid(id) {
		return status.Errorf(codes.NotFound, "volume_id: no volume can be named %.128q", id)
	}
	return nil
}
