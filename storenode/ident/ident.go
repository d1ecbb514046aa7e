// Package ident names the things of the data plane: the same types in memory, on the wire and on Devices.
//
// A name has one width everywhere. The package is pure: it holds values and their text forms, nothing else.
package ident

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// UUID is a 128-bit identity: of a Device (in its Superblock) or of a Volume (given once by the operator).
// The zero UUID means "none".
type UUID [16]byte

// ErrUUID says that a text is not a UUID in its usual form of 36 characters.
var ErrUUID = errors.New("not a UUID")

// ParseUUID reads the usual text form, 8-4-4-4-12 hexadecimal digits.
func ParseUUID(text string) (UUID, error) {
	var u UUID
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return u, fmt.Errorf("parse %q: %w", text, ErrUUID)
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != len(u) {
		return u, fmt.Errorf("parse %q: %w", text, ErrUUID)
	}
	copy(u[:], raw)
	return u, nil
}

// String is the usual text form, accepted by ParseUUID.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// MarshalText is the usual text form, for logs and JSON; UnmarshalText reads it.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(text []byte) (err error) {
	*u, err = ParseUUID(string(text))
	return err
}

// IsZero reports whether u names nothing.
func (u UUID) IsZero() bool { return u == UUID{} }

// ShardID names a Shard: the Volume and the Shard's place in it, counted from 0.
type ShardID struct {
	Volume UUID
	Index  uint32
}

// String is VOLUME/INDEX.
func (s ShardID) String() string { return fmt.Sprintf("%s/%d", s.Volume, s.Index) }

// ReplicaID names one Replica within its Shard. It is never used again after the Replica is gone, so a Replica
// that comes back late cannot be taken for its successor. 0 means "none".
type ReplicaID uint32

// ReplicaKey names a Replica in the whole cluster.
type ReplicaKey struct {
	Shard   ShardID
	Replica ReplicaID
}

// String is VOLUME/INDEX#REPLICA.
func (k ReplicaKey) String() string { return fmt.Sprintf("%s#%d", k.Shard, k.Replica) }

// Epoch names one membership and one Primary of a Shard. It only grows, by one at each change. 0 means "none".
type Epoch uint64

// Seq numbers the writes of a Shard in the order of its Primary. It only grows. 0 means "none".
type Seq uint64

// Generation fences attachments of a Volume: a Shard refuses I/O of a generation lower than the highest it was shown.
type Generation uint64

// SessionID names one life of one client (one attachment of an Initiator). Drawn at random; 0 means "none".
type SessionID uint64

// RequestID numbers the requests of a session; (SessionID, RequestID) names a request for ever.
type RequestID uint64

// BlockSize is the unit of I/O, checksums and the written-bitmap, in bytes.
const BlockSize = 4096

// MaxIO is the largest payload of one request, in bytes: one default Extent.
const MaxIO = 1 << 20
