package attach

import (
	"context"
	"errors"
)

// BlockSize is the logical block of each attached device, in bytes; offsets and lengths are multiples of it.
const BlockSize = 4096

// MaxIO bounds the payload of a Request, in bytes.
const MaxIO = 1 << 20

// MaxSpan bounds the length of a Request without payload (OpDiscard, OpWriteZeroes), in bytes.
const MaxSpan = 1 << 30

// Errors that a caller tells apart.
var (
	// ErrNoSpace is the Err of a Request that the Pool has no room for.
	ErrNoSpace = errors.New("no space left in the pool")
	// ErrBusy says that the device is in use, so it cannot be detached now.
	ErrBusy = errors.New("device is in use")
	// ErrGone says that somebody else has ended the device; another volume may have its number.
	ErrGone = errors.New("device is gone")
	// ErrUnreadable says that what is held of a device means nothing to this program, so it can never adopt it.
	ErrUnreadable = errors.New("what is held of the device cannot be read")
)

// Op is what a Request asks for.
type Op uint8

// The operations.
const (
	OpRead Op = iota + 1
	OpWrite
	// OpFlush completes when all writes completed before it survive power loss.
	OpFlush
	OpDiscard
	OpWriteZeroes
)

// Request is one operation on a Backend. See the package comment for who owns it when.
type Request struct {
	Op Op
	// FUA asks that the write survive power loss before it completes.
	FUA bool
	// Offset and Length in bytes, multiples of BlockSize within the Backend's size; both 0 for OpFlush.
	Offset int64
	Length int
	// Buffer holds Length bytes to write or takes those read, from its start; nil for other operations. For OpRead the
	// Backend may put another of its own in its place and release this one, so that what arrives need not be copied.
	Buffer Buffer
	// Done is told of the completion.
	Done Completer
	// Err is the outcome, set by the Backend before it calls Done.
	Err error
	// Slot belongs to the Backend: it may keep its own record of the Request here from one use to the next, so that
	// the data path allocates nothing.
	Slot any
}

// Completer is told of the end of a Request. It must not block.
type Completer interface {
	RequestDone(r *Request)
}

// Buffer is payload memory that starts at a multiple of BlockSize and does not move.
type Buffer interface {
	// Bytes is the whole of it, at least as long as was asked for.
	Bytes() []byte
	// Release gives it back; nobody who was lent it touches it afterwards.
	Release()
}

// Backend is the asynchronous side of a Volume.
type Backend interface {
	// Size in bytes, a multiple of BlockSize.
	Size() int64
	// Buffer gives memory for size bytes, at most MaxIO, or nil while the limit is reached: try again after a
	// Request has completed.
	Buffer(size int) Buffer
	Submit(r *Request)
	Kick()
}

// Spec is what a device is made from.
type Spec struct {
	// Volume names the device: letters, digits, '-' and '.'; unique on the node.
	Volume   string
	Backend  Backend
	ReadOnly bool
}

// Device is an attached Volume.
type Device struct {
	// Path of the block device, e.g. /dev/loop3.
	Path string
	// Link is a stable name for people, /dev/shale/VOLUME; it leads to Path.
	Link string
}

// Frontend makes block devices of Backends. Calls for one Volume come one at a time; different Volumes in parallel.
type Frontend interface {
	Name() string
	// Probe says why this node cannot use the Frontend, or nil.
	Probe() error
	// Attach makes the device; it is usable when the call returns.
	Attach(ctx context.Context, spec Spec) (Device, error)
	// Detach ends the device, after which the Backend gets no Request. While somebody has the device open it waits
	// until ctx ends, or for as long as the kernel needs to end what I/O is in progress, and then says ErrBusy; the device
	// works on. An unknown volume is no error.
	Detach(ctx context.Context, volume string) error
	// Confirm says nil if the device of an attached volume is still that volume's, ErrGone if it is not. It may be
	// called beside another call for the Volume.
	Confirm(volume string) error
	// CleanUp ends what an earlier process with the same state directory left behind, except what was adopted, and
	// nothing else. What the kernel does not tell within a few seconds is left as it is. No Attach comes before it has
	// returned; it may be called beside Confirm, Resume and Abandon.
	CleanUp(ctx context.Context) error
	// Held is what a successor of this process needs to go on with the device of an attached volume; the descriptors
	// stay the Frontend's. false if the kernel cannot do that.
	Held(volume string) (Held, bool)
	// Adopt takes over the device of a process that has died, and asks the kernel nothing, which may wait for Resume as
	// the device's I/O does; Confirm tells whether it is still there. A Detach before Resume fails. The descriptors are
	// the Frontend's if there is no error. With ErrUnreadable or ErrGone they are of no use to anybody; any other error
	// says nothing of the device.
	Adopt(volume string, h Held) (Device, error)
	// Resume gives an adopted device its Backend and does what its former process left undone.
	Resume(spec Spec) error
	// Abandon gives an adopted device up: its I/O fails, and it goes away with its last opener.
	Abandon(volume string) error
}

// Held is what of a device outlives the process that made it, if somebody keeps the descriptors open.
type Held struct {
	// State is the Frontend's record of the device.
	State []byte
	Files []int
}
