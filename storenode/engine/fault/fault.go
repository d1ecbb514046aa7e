// Package fault puts errors and delays between a Device and its user, by predicate.
//
// It is for tests: the predicate sees each request before the Device does and says what is to become of it. Held
// requests wait for Release. Concurrency: as engine.Device; Release and Set may be called from any goroutine.
package fault

import (
	"sync"

	"github.com/shale-storage/shale/storenode/engine"
)

// Verdict is what becomes of a request.
type Verdict struct {
	// Err completes the request without reaching the Device.
	Err error
	// Hold keeps it until Release.
	Hold bool
}

// Predicate decides on a request. It is called inside the monitor.
type Predicate func(r *engine.Request) Verdict

// Device wraps another.
type Device struct {
	engine.Device
	owner engine.Owner

	mu     sync.Mutex
	decide Predicate
	held   []*engine.Request
	failed []*engine.Request
}

// Wrap puts a Predicate before a Device; nil lets all pass.
func Wrap(d engine.Device, owner engine.Owner, decide Predicate) *Device {
	return &Device{Device: d, owner: owner, decide: decide}
}

// Set replaces the Predicate.
func (d *Device) Set(decide Predicate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.decide = decide
}

// Submit implements engine.Device.
func (d *Device) Submit(r *engine.Request) {
	d.mu.Lock()
	var v Verdict
	if d.decide != nil {
		v = d.decide(r)
	}
	switch {
	case v.Hold:
		d.held = append(d.held, r)
	case v.Err != nil:
		r.Err = v.Err
		d.failed = append(d.failed, r)
	}
	d.mu.Unlock()
	if v.Hold {
		return
	}
	if v.Err != nil {
		go d.deliver()
		return
	}
	d.Device.Submit(r)
}

// Held is the number of requests that wait for Release.
func (d *Device) Held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.held)
}

// Release lets held requests go on to the Device. Outside the monitor.
func (d *Device) Release() {
	d.mu.Lock()
	held := d.held
	d.held = nil
	d.mu.Unlock()
	d.owner.Enter()
	defer d.owner.Leave()
	for _, r := range held {
		d.Device.Submit(r)
	}
}

// deliver completes failed requests as an engine does: later, inside the monitor.
func (d *Device) deliver() {
	d.owner.Enter()
	defer d.owner.Leave()
	d.mu.Lock()
	failed := d.failed
	d.failed = nil
	d.mu.Unlock()
	for _, r := range failed {
		r.Done.Complete(r)
	}
}
