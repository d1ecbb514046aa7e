package main

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/uring"
)

// raw is a file on the disk, by the engine that a storenode uses. It is the Owner of its Device.
type raw struct {
	mu     sync.Mutex
	device *uring.Device
}

// openRaw makes a file of size bytes with room of its own.
func openRaw(path string, size int64) (*raw, error) {
	if err := makeFile(path, size); err != nil {
		return nil, err
	}
	r := &raw{}
	device, err := uring.Open(path, r)
	if err != nil {
		return nil, fmt.Errorf("open raw file: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.device = device
	return r, nil
}

func makeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// Enter implements engine.Owner.
func (r *raw) Enter() { r.mu.Lock() }

// Leave implements engine.Owner.
func (r *raw) Leave() {
	if r.device != nil {
		r.device.Kick()
	}
	r.mu.Unlock()
}

// rawRequest ties a Request of the engine to an operation.
type rawRequest struct {
	engine.Request
	o *operation
}

// Complete implements engine.Completer, inside the monitor.
func (q *rawRequest) Complete(r *engine.Request) { q.o.ended(r.Err) }

// begin implements target; after the first round it is called from Complete, inside the monitor.
func (r *raw) begin(o *operation) {
	q, ok := o.slot.(*rawRequest)
	if !ok {
		q = &rawRequest{o: o}
		o.slot = q
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	q.Request = engine.Request{Op: engine.OpRead, Offset: o.offset, Buf: o.buf.Bytes(), Done: q}
	if o.write {
		q.Op = engine.OpWrite
	}
	r.device.Submit(&q.Request)
}

// kick implements target.
func (r *raw) kick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.device.Kick()
}

// broken and failure implement target: a file lasts.
func (r *raw) broken() <-chan struct{} { return nil }
func (r *raw) failure() error          { return nil }

func (r *raw) close() error { return r.device.Close() }
