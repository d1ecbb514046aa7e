package api

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
)

// The paths of version 1.
const (
	PathAttach  = "/v1/attach"
	PathDetach  = "/v1/detach"
	PathVolumes = "/v1/volumes"
	PathHealth  = "/v1/health"
)

// ParameterVolume of PathVolumes asks for one volume alone. An initiator that does not know it answers with all.
const ParameterVolume = "volume"

// Limits of a request.
const (
	// MaxBody bounds the body of a request or an answer, in bytes.
	MaxBody = 1 << 20
	// MaxAddresses bounds the bootstrap addresses of an AttachRequest.
	MaxAddresses = 64
	// blockSize is the unit of a Volume's size, in bytes.
	blockSize = 4096
)

// AttachRequest asks for the device of a Volume.
type AttachRequest struct {
	// Volume is the name of the Volume object; it names the device.
	Volume string `json:"volume"`
	// ID is the UUID of the Volume on the wire.
	ID        string `json:"id"`
	SizeBytes int64  `json:"sizeBytes"`
	// Generation of the attachment: a storenode that was shown a higher one refuses this one's writes.
	Generation uint64 `json:"generation"`
	ReadOnly   bool   `json:"readOnly,omitempty"`
	// Addresses (host:port) of storenodes to ask for the map of the Volume.
	Addresses []string `json:"addresses"`
	// Frontend forces a kind of device; empty takes the first that works here.
	Frontend string `json:"frontend,omitempty"`
}

// Attachment is an attached Volume.
type Attachment struct {
	Volume     string `json:"volume"`
	ID         string `json:"id"`
	SizeBytes  int64  `json:"sizeBytes"`
	Generation uint64 `json:"generation"`
	ReadOnly   bool   `json:"readOnly,omitempty"`
	Frontend   string `json:"frontend"`
	// DevicePath is the block device, Link its stable name below /dev/shale.
	DevicePath string `json:"devicePath"`
	Link       string `json:"link,omitempty"`
	// Held: the device outlives the initiator.
	Held bool `json:"held,omitempty"`
	// Fenced: a newer attachment has been made, or the volume is deleted, and all I/O of the device fails.
	Fenced bool `json:"fenced,omitempty"`
}

// DetachRequest asks to end the device of a Volume.
type DetachRequest struct {
	Volume string `json:"volume"`
}

// VolumeList is all that is attached, by name.
type VolumeList struct {
	Volumes []Attachment `json:"volumes"`
}

// Health says that the initiator works and what with.
type Health struct {
	Node      string   `json:"node"`
	Frontends []string `json:"frontends"`
	Attached  int      `json:"attached"`
	// Held of those outlive the process, because a holder keeps what a successor needs.
	Held int `json:"held"`
}

// Code is the kind of an Error.
type Code string

// The codes. Callers meet an unknown code as CodeInternal.
const (
	// CodeInvalid: the request is malformed; repeating it is useless.
	CodeInvalid Code = "Invalid"
	// CodeBusy: another call for the Volume is running, or the device is in use; try again.
	CodeBusy Code = "Busy"
	// CodeConflict: the Volume is attached in another way; detach it first.
	CodeConflict Code = "Conflict"
	// CodeFenced: a newer attachment has been made, here or elsewhere, or the volume is deleted.
	CodeFenced Code = "Fenced"
	// CodeUnreachable: none of the addresses answers.
	CodeUnreachable Code = "Unreachable"
	// CodeUnknownVolume: the storenodes know no such Volume.
	CodeUnknownVolume Code = "UnknownVolume"
	// CodeLimit: this node has as many Volumes as it may.
	CodeLimit Code = "Limit"
	// CodeInternal: everything else.
	CodeInternal Code = "Internal"
)

// Error is the answer to a request that failed.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Error is the message; the code adds nothing a person needs.
func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf is the Code of err, CodeInternal if it has none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// httpStatus is for people with curl; clients read the Code.
func (c Code) httpStatus() int {
	switch c {
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeBusy, CodeConflict, CodeFenced:
		return http.StatusConflict
	case CodeUnknownVolume:
		return http.StatusNotFound
	case CodeUnreachable, CodeLimit:
		return http.StatusServiceUnavailable
	case CodeInternal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

var (
	volumeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,125}[a-z0-9])?$`)
	volumeID   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// ValidateVolume says whether name can name a device: it becomes part of paths, so nothing else may pass.
func ValidateVolume(name string) error {
	if !volumeName.MatchString(name) {
		return Errorf(CodeInvalid, "volume: %.140q is not a name of lower case letters, digits, '-' and '.'", name)
	}
	return nil
}

// Validate names the first field that is wrong.
func (r *AttachRequest) Validate() error {
	if err := ValidateVolume(r.Volume); err != nil {
		return err
	}
	switch {
	case !volumeID.MatchString(r.ID):
		return Errorf(CodeInvalid, "id: %.60q is not a UUID", r.ID)
	case r.SizeBytes <= 0 || r.SizeBytes%blockSize != 0:
		return Errorf(CodeInvalid, "sizeBytes: %d is not a positive multiple of %d", r.SizeBytes, blockSize)
	case r.Generation == 0:
		return Errorf(CodeInvalid, "generation: must be at least 1")
	case len(r.Addresses) == 0 || len(r.Addresses) > MaxAddresses:
		return Errorf(CodeInvalid, "addresses: %d given, want 1 to %d", len(r.Addresses), MaxAddresses)
	}
	return nil
}
