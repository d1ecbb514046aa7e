// Package volume is a Backend whose bytes are at the storenodes: it fits the volume client onto package attach.
//
// It adds nothing but names and errors. Each attach.Request keeps the client's Request in its Slot, so nothing is
// allocated per I/O, and payloads are the client's own memory, so nothing is copied. What package attach says of
// concurrency holds, because it holds for the client.
//
// # Failure
//
// A Volume whose storenodes are away keeps its Requests until they are back; see package client. Open's errors carry
// the Code of package api that the caller can act on.
package volume

import (
	"context"
	"errors"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/initiator"
	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/storenode/client"
)

// Backend implements attach.Backend, and initiator.Volume.
type Backend struct {
	client *client.Volume
}

// Opener opens Volumes by the client.
func Opener(p *client.Process) initiator.Opener {
	return func(ctx context.Context, r api.AttachRequest) (initiator.Volume, error) {
		v, err := p.Open(ctx, r.ID, r.Generation, r.Addresses)
		if err != nil {
			return nil, api.Errorf(codeOf(err), "%v", err)
		}
		if err := v.Fence(ctx); err != nil {
			return nil, errors.Join(api.Errorf(codeOf(err), "%v", err), v.Close())
		}
		return New(v), nil
	}
}

// New is the Backend of an open Volume.
func New(v *client.Volume) *Backend { return &Backend{client: v} }

func codeOf(err error) api.Code {
	switch {
	case errors.Is(err, client.ErrFenced):
		return api.CodeFenced
	case errors.Is(err, client.ErrUnknownVolume):
		return api.CodeUnknownVolume
	case errors.Is(err, client.ErrUnreachable):
		return api.CodeUnreachable
	case errors.Is(err, client.ErrInvalid):
		return api.CodeInvalid
	}
	return api.CodeInternal
}

// slot is the client's side of a Request.
type slot struct {
	client.Request
	outer *attach.Request
}

// RequestDone implements client.Completer.
func (s *slot) RequestDone(*client.Request) {
	r := s.outer
	if s.Buffer != nil {
		r.Buffer = s.Buffer
	}
	s.outer, s.Buffer = nil, nil
	r.Err = s.Err
	if errors.Is(r.Err, client.ErrNoSpace) {
		r.Err = attach.ErrNoSpace
	}
	r.Done.RequestDone(r)
}

// Size in bytes.
func (b *Backend) Size() int64 { return b.client.Size() }

// Buffer gives the client's memory.
func (b *Backend) Buffer(size int) attach.Buffer {
	if got := b.client.Buffer(size); got != nil {
		return got
	}
	return nil
}

// Submit hands r to the client.
func (b *Backend) Submit(r *attach.Request) {
	s, ok := r.Slot.(*slot)
	if !ok {
		s = &slot{}
		s.Done = s
		r.Slot = s
	}
	s.outer = r
	s.Op, s.FUA, s.Offset, s.Length = op(r.Op), r.FUA, r.Offset, r.Length
	if r.Buffer != nil {
		s.Buffer, _ = r.Buffer.(*client.Buffer) // memory of anybody else is refused by the client
	}
	b.client.Submit(&s.Request)
}

// op is the client's name of an operation; it refuses 0.
func op(o attach.Op) client.Op {
	switch o {
	case attach.OpRead:
		return client.OpRead
	case attach.OpWrite:
		return client.OpWrite
	case attach.OpFlush:
		return client.OpFlush
	case attach.OpDiscard:
		return client.OpDiscard
	case attach.OpWriteZeroes:
		return client.OpWriteZeroes
	}
	return 0
}

// Kick sends what was submitted.
func (b *Backend) Kick() { b.client.Kick() }

// Fenced reports whether the client has learned that a newer attachment exists, or that the Volume is deleted.
func (b *Backend) Fenced() bool { return b.client.Fenced() }

// Addresses of the storenodes that have the Volume now.
func (b *Backend) Addresses() []string { return b.client.Addresses() }

// Close ends the Volume.
func (b *Backend) Close() error { return b.client.Close() }
