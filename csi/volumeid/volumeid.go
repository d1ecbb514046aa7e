// Package volumeid turns the names that a CSI caller gives volumes into names of Volume objects, which are the CSI
// volume ids.
//
// A name that can be the name of an object stays as it is, so that people find pvc-1234… under that name. Any other
// becomes "v-" and a hash of it: the same name always gives the same id, which is what makes CreateVolume idempotent,
// and different names different ones. Pure.
package volumeid

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
)

const (
	// MaxName bounds the name a caller may give, in bytes, as the CSI specification does.
	MaxName = 128
	// MaxID bounds the id, so that it is a label value too and leaves room for what is named after it (ID-SHARD).
	MaxID = 63
	// hashPrefix and hashBytes make the ids of names that cannot be ids themselves. The prefix is never taken as given,
	// so that no name can meet the hash of another.
	hashPrefix = "v-"
	hashBytes  = 16
)

// valid is a DNS label.
var valid = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// FromName is the id of the volume which a caller names so.
func FromName(name string) (string, error) {
	switch {
	case name == "":
		return "", fmt.Errorf("name is missing")
	case len(name) > MaxName:
		return "", fmt.Errorf("name has %d bytes, at most %d are possible", len(name), MaxName)
	case IsValid(name) && !isHash(name):
		return name, nil
	}
	sum := sha256.Sum256([]byte(name))
	return hashPrefix + hex.EncodeToString(sum[:hashBytes]), nil
}

// IsValid reports whether id may be an id at all. One that may not names no volume.
func IsValid(id string) bool { return len(id) <= MaxID && valid.MatchString(id) }

func isHash(name string) bool {
	return len(name) == len(hashPrefix)+2*hashBytes && name[:len(hashPrefix)] == hashPrefix
}
