package driver

import (
	"fmt"
	"strconv"
	"strings"
)

// Keys of the publish context: what the controller tells the node about an attachment.
const (
	keyVolumeID   = "volumeID"
	keySize       = "sizeBytes"
	keyGeneration = "generation"
	keyAddresses  = "addresses"
)

// publishContext is what ControllerPublishVolume hands to NodeStageVolume.
type publishContext struct {
	// VolumeID is the UUID of the Volume on the wire.
	VolumeID   string
	SizeBytes  int64
	Generation uint64
	// Addresses of storenodes, host:port.
	Addresses []string
}

func (p publishContext) encode() map[string]string {
	return map[string]string{
		keyVolumeID:   p.VolumeID,
		keySize:       strconv.FormatInt(p.SizeBytes, 10),
		keyGeneration: strconv.FormatUint(p.Generation, 10),
		keyAddresses:  strings.Join(p.Addresses, ","),
	}
}

// decodePublishContext names the first key that is missing or malformed.
func decodePublishContext(m map[string]string) (publishContext, error) {
	for _, key := range []string{keyVolumeID, keySize, keyGeneration, keyAddresses} {
		if m[key] == "" {
			return publishContext{}, fmt.Errorf("publish context: %s is missing", key)
		}
	}
	size, err := strconv.ParseInt(m[keySize], 10, 64)
	if err != nil {
		return publishContext{}, fmt.Errorf("publish context: %s: %w", keySize, err)
	}
	generation, err := strconv.ParseUint(m[keyGeneration], 10, 64)
	if err != nil {
		return publishContext{}, fmt.Errorf("publish context: %s: %w", keyGeneration, err)
	}
	return publishContext{
		VolumeID: m[keyVolumeID], SizeBytes: size, Generation: generation,
		Addresses: strings.Split(m[keyAddresses], ","),
	}, nil
}
