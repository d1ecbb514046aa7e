// Package params reads the parameters of a StorageClass and the sizes of a claim.
//
// The parameters:
//
//	pool        name of the Pool; required
//	replicas    of each Shard, 1 to 5; 3 if it is not given
//	minInSync   Replicas that must be in sync for changes to be acknowledged, 1 to replicas; if it is not given, 1 of up
//	            to two replicas, 2 of more
//	shardSize   64Mi to 1Ti, a multiple of 1Mi; 32Gi if it is not given
//	csi.storage.k8s.io/fstype   ext4 or xfs
//	csi.storage.k8s.io/pvc/name, …/pvc/namespace, …/pv/name   whom the volume is for, told by the provisioner
//
// Any other key is refused: a misspelt one that was ignored would give a volume other than the one asked for. Each
// error names the key or the field, the value, and what is possible. Pure.
package params

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The keys.
const (
	KeyPool         = "pool"
	KeyReplicas     = "replicas"
	KeyMinInSync    = "minInSync"
	KeyShardSize    = "shardSize"
	KeyFilesystem   = "csi.storage.k8s.io/fstype"
	KeyPVCName      = "csi.storage.k8s.io/pvc/name"
	KeyPVCNamespace = "csi.storage.k8s.io/pvc/namespace"
	KeyPVName       = "csi.storage.k8s.io/pv/name"
)

// Limits and defaults.
const (
	// BlockSize is the unit of a volume's size.
	BlockSize = 4 << 10
	// MinVolumeSize is the smallest volume; a smaller one asked for becomes this.
	MinVolumeSize = 1 << 20
	// MinXFSSize is the smallest that mkfs.xfs makes a file system on.
	MinXFSSize = 300 << 20
	// DefaultVolumeSize is taken when the caller names no size.
	DefaultVolumeSize = 1 << 30

	maxReplicas      = 5
	defaultReplicas  = 3
	shardSizeUnit    = 1 << 20
	minShardSize     = 64 << 20
	maxShardSize     = 1 << 40
	defaultShardSize = 32 << 30
	// MaxShards bounds the Shards of one volume.
	MaxShards = 1 << 16

	// maxValue bounds a value, in bytes: it may come back in an error and in an event.
	maxValue = 256
)

// Volume is what a StorageClass says of its volumes.
type Volume struct {
	Pool     string
	Replicas int32
	// MinInSync is 0 if it is not given.
	MinInSync      int32
	ShardSizeBytes int64
	// Filesystem is empty if the StorageClass leaves it to the claim.
	Filesystem string
	Claim      Claim
}

// Claim is whom the volume is for; empty if the provisioner does not tell.
type Claim struct {
	Namespace, Name, PersistentVolume string
}

// readers take one value each.
var readers = map[string]func(v *Volume, value string) error{
	KeyPool:         readPool,
	KeyReplicas:     readReplicas,
	KeyMinInSync:    readMinInSync,
	KeyShardSize:    readShardSize,
	KeyFilesystem:   readFilesystem,
	KeyPVCName:      func(v *Volume, value string) error { v.Claim.Name = value; return nil },
	KeyPVCNamespace: func(v *Volume, value string) error { v.Claim.Namespace = value; return nil },
	KeyPVName:       func(v *Volume, value string) error { v.Claim.PersistentVolume = value; return nil },
}

// Parse reads all of m, or says what is wrong with one of its keys: always the same one, the first in order.
func Parse(m map[string]string) (Volume, error) {
	v := Volume{Replicas: defaultReplicas, ShardSizeBytes: defaultShardSize}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		read, known := readers[key]
		if !known {
			return Volume{}, fmt.Errorf("parameter %.256q is not known; possible are %s", key, written())
		}
		if len(m[key]) > maxValue {
			return Volume{}, fmt.Errorf("parameter %s has %d bytes, at most %d are possible", key, len(m[key]), maxValue)
		}
		if err := read(&v, m[key]); err != nil {
			return Volume{}, fmt.Errorf("parameter %s: %w", key, err)
		}
	}
	if v.Pool == "" {
		return Volume{}, fmt.Errorf("parameter %s is missing: name the Pool that gives the Devices", KeyPool)
	}
	if v.MinInSync > v.Replicas {
		return Volume{}, fmt.Errorf("parameter %s: %d of %d replicas can never be in sync",
			KeyMinInSync, v.MinInSync, v.Replicas)
	}
	return v, nil
}

// written are the keys that people write.
func written() string {
	return strings.Join([]string{KeyPool, KeyReplicas, KeyMinInSync, KeyShardSize, KeyFilesystem}, ", ")
}

func readPool(v *Volume, value string) error {
	if value == "" {
		return fmt.Errorf("is empty: name the Pool that gives the Devices")
	}
	if wrong := validation.IsDNS1123Subdomain(value); len(wrong) > 0 {
		return fmt.Errorf("%q is not the name of a Pool: %s", value, wrong[0])
	}
	v.Pool = value
	return nil
}

func readReplicas(v *Volume, value string) error { return readCount(&v.Replicas, value) }

func readMinInSync(v *Volume, value string) error { return readCount(&v.MinInSync, value) }

// readCount reads a number of Replicas.
func readCount(into *int32, value string) error {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 1 || n > maxReplicas {
		return fmt.Errorf("%q is not a number from 1 to %d", value, maxReplicas)
	}
	*into = int32(n)
	return nil
}

// plainSize is a size without an exponent. With one, a Quantity may take more time to read than anybody has:
// 1e-99999999 does.
var plainSize = regexp.MustCompile(`^[0-9.]{1,32}([KMGTPE]i|[mkMGTPE])?$`)

func readShardSize(v *Volume, value string) error {
	if !plainSize.MatchString(value) {
		return fmt.Errorf("%q is not a size such as 32Gi", value)
	}
	q, err := resource.ParseQuantity(value)
	if err != nil {
		return fmt.Errorf("%q is not a size such as 32Gi: %w", value, err)
	}
	size, exact := q.AsInt64()
	if !exact || size < minShardSize || size > maxShardSize || size%shardSizeUnit != 0 {
		return fmt.Errorf("%q is not a multiple of 1Mi from 64Mi to 1Ti", value)
	}
	v.ShardSizeBytes = size
	return nil
}

func readFilesystem(v *Volume, value string) error {
	if value != "ext4" && value != "xfs" {
		return fmt.Errorf("%q is neither ext4 nor xfs", value)
	}
	v.Filesystem = value
	return nil
}

// Size is the size of a volume for a claim that requires so many bytes and allows no more than limit; 0 leaves either
// open. It is rounded up to whole Blocks.
func (v Volume) Size(required, limit int64) (int64, error) {
	if required < 0 || limit < 0 {
		return 0, fmt.Errorf("capacity_range: required_bytes %d and limit_bytes %d must not be negative", required, limit)
	}
	if limit > 0 && required > limit {
		return 0, fmt.Errorf("capacity_range: required_bytes %d is more than limit_bytes %d", required, limit)
	}
	largest := MaxShards * v.ShardSizeBytes
	if required > largest {
		return 0, fmt.Errorf("capacity_range: required_bytes %d is more than %d, which is %d Shards of %s %d",
			required, largest, MaxShards, KeyShardSize, v.ShardSizeBytes)
	}
	size := max(required, MinVolumeSize)
	if required == 0 {
		size = DefaultVolumeSize
		if limit > 0 {
			size = min(size, limit/BlockSize*BlockSize)
		}
	}
	size = (size + BlockSize - 1) / BlockSize * BlockSize
	if limit > 0 && size > limit || size < MinVolumeSize {
		return 0, fmt.Errorf("capacity_range: no size from required_bytes %d to limit_bytes %d is possible: "+
			"sizes are multiples of %d from %d", required, limit, BlockSize, MinVolumeSize)
	}
	return size, nil
}
