package initiator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/initiator/api"
)

const (
	// attachTimeout bounds an Attach whose caller waits longer.
	attachTimeout = time.Minute
	// detachTimeout bounds the wait for openers of a device.
	detachTimeout = 20 * time.Second
)

// Volume is an open Volume.
type Volume interface {
	attach.Backend
	// Fenced reports whether the Volume is known to be of no use any more: it was attached anew, or deleted.
	Fenced() bool
	// Addresses of the storenodes that have the Volume now, as far as is known.
	Addresses() []string
	// Close ends it; no Request is in flight.
	Close() error
}

// Opener opens a Volume at the storenodes. Its errors carry a Code of package api where the caller can act on it.
type Opener func(ctx context.Context, r api.AttachRequest) (Volume, error)

// Options of New and Run. All are required but Holder and Clock.
type Options struct {
	// Socket is the path of the unix socket (Run only).
	Socket string
	// Node is the name of this node.
	Node string
	// Frontends in the order of preference.
	Frontends []attach.Frontend
	Open      Opener
	// MaxVolumes bounds what may be attached at a time.
	MaxVolumes int
	// Holder is the socket of the holder; empty for none, then devices end with this process.
	Holder string
	// Life of this process: a number, below v1alpha1.AttachGenerationStep, that is higher than that of any process
	// before on this node. The second in which it began is one.
	Life uint32
	// Clock is the second that it is now, for attachments to which Life is too low, if Life is a second; nil for none.
	Clock func() uint32
	Log   *slog.Logger
}

func (o Options) validate() error {
	switch {
	case o.Node == "":
		return errors.New("options: node is empty")
	case len(o.Frontends) == 0:
		return errors.New("options: no frontends")
	case o.Open == nil:
		return errors.New("options: no opener")
	case o.MaxVolumes < 1:
		return fmt.Errorf("options: max volumes is %d", o.MaxVolumes)
	case o.Log == nil:
		return errors.New("options: no log")
	}
	return nil
}

// Initiator is the table of attached Volumes. It implements api.Initiator.
type Initiator struct {
	options Options
	holding *holding

	// mu guards the rest; an entry's other fields belong to the call that has it busy.
	mu    sync.Mutex
	table map[string]*entry
	// serving: the socket is served, after all that was left by an earlier process has been taken over.
	serving bool
	// raised are the attachments whose life is not that of this process, by volume.
	raised map[string]raised
}

// entry is a Volume that is attached, or being attached or detached.
type entry struct {
	// busy: a call is at work on it.
	busy bool
	// attached is what callers are told; nil while the Volume is being attached.
	attached *api.Attachment
	// request is the one that attached it.
	request api.AttachRequest
	// ending: its device could not be ended whole, and what is left of it is given to nobody; guarded by Initiator.mu.
	ending bool
	// volume and frontend are read by List too: while attached is set they change under Initiator.mu.
	volume   Volume
	frontend attach.Frontend
	// life of the attachment in which volume was opened; adopted is what a device that waits for it was made of.
	life    uint32
	adopted attach.Held
	// turn is for one to ask the kernel what the device is.
	turn chan struct{}
}

func newEntry() *entry { return &entry{turn: make(chan struct{}, 1)} }

// New makes an Initiator with nothing attached.
func New(o Options) (*Initiator, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Initiator{
		options: o, holding: newHolding(o.Holder, o.Log), table: map[string]*entry{}, raised: map[string]raised{},
	}, nil
}

// CleanUp ends what an earlier process left in the kernel. What cannot be ended is logged: it hinders nobody else.
func (i *Initiator) CleanUp(ctx context.Context) {
	for _, f := range i.options.Frontends {
		if err := f.CleanUp(ctx); err != nil {
			i.options.Log.Warn("Cannot clean up after an earlier process", "frontend", f.Name(), "cause", err)
		}
	}
}

// Attach returns the device for r, which it makes if need be. See the package comment.
func (i *Initiator) Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error) {
	if err := r.Validate(); err != nil {
		return api.Attachment{}, err
	}
	e, err := i.acquire(r.Volume, true)
	if err != nil {
		return api.Attachment{}, err
	}
	defer i.release(r.Volume, e)
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	if e.attached != nil {
		keep, err := i.keeps(ctx, e, r)
		if err != nil {
			return api.Attachment{}, err
		}
		if keep {
			i.learn(ctx, e, r.Addresses)
			return *e.attached, nil
		}
		if err := i.end(ctx, e); err != nil {
			return api.Attachment{}, fmt.Errorf("end generation %d: %w", e.request.Generation, err)
		}
	}
	return i.start(ctx, e, r)
}

// keeps reports whether the device that e has is the one for r. If not, it is to be ended first.
func (i *Initiator) keeps(ctx context.Context, e *entry, r api.AttachRequest) (bool, error) {
	same, err := e.compare(r)
	if err != nil || !same || e.ending {
		return false, err
	}
	if e.isFenced() {
		return false, i.endFenced(ctx, e)
	}
	err = e.shown().confirm(ctx)
	if errors.Is(err, attach.ErrGone) {
		i.options.Log.Warn("Somebody else has ended the device: making another", "volume", r.Volume, "cause", err)
		return false, nil
	}
	return err == nil, err
}

// endFenced ends a device that is of no use any more, unless somebody uses it, and says that it is fenced: to the
// kubelet that is final, so nobody would have it detached later.
func (i *Initiator) endFenced(ctx context.Context, e *entry) error {
	fenced := api.Errorf(api.CodeFenced, "volume %s: a newer attachment than generation %d exists, or it is deleted",
		e.request.Volume, e.request.Generation)
	if err := i.end(ctx, e); err != nil {
		return fmt.Errorf("%w; and the device stays: %w", fenced, err)
	}
	i.options.Log.Info("Ended fenced device", "volume", e.request.Volume, "generation", e.request.Generation)
	return fenced
}

// compare tells whether e is what r asks for (true), an older attachment to be replaced (false), or neither.
func (e *entry) compare(r api.AttachRequest) (bool, error) {
	old := e.request
	switch {
	case r.ID != old.ID:
		return false, api.Errorf(api.CodeConflict, "volume %s is attached with id %s, not %s", r.Volume, old.ID, r.ID)
	case r.Generation < old.Generation:
		return false, api.Errorf(api.CodeFenced, "volume %s is attached with generation %d, which fences %d",
			r.Volume, old.Generation, r.Generation)
	case r.Generation > old.Generation:
		return false, nil
	case r.ReadOnly != old.ReadOnly || r.SizeBytes != old.SizeBytes:
		return false, api.Errorf(api.CodeConflict, "volume %s is attached with readOnly %v and %d bytes", r.Volume,
			old.ReadOnly, old.SizeBytes)
	case r.Frontend != "" && r.Frontend != e.frontend.Name():
		return false, api.Errorf(api.CodeConflict, "volume %s is attached by frontend %s", r.Volume, e.frontend.Name())
	}
	return true, nil
}

// isFenced reports whether the device fails all I/O, because the Volume has been attached anew or is deleted.
func (e *entry) isFenced() bool { return e.volume != nil && e.volume.Fenced() }

// start opens the Volume and makes its device; when it fails nothing is left.
func (i *Initiator) start(ctx context.Context, e *entry, r api.AttachRequest) (api.Attachment, error) {
	frontend, err := i.choose(r.Frontend)
	if err != nil {
		return api.Attachment{}, err
	}
	volume, life, err := i.open(ctx, r)
	if err != nil {
		return api.Attachment{}, fmt.Errorf("open volume: %w", err)
	}
	if volume.Size() != r.SizeBytes {
		return api.Attachment{}, errors.Join(api.Errorf(api.CodeInvalid,
			"sizeBytes: %d, but the volume has %d", r.SizeBytes, volume.Size()), volume.Close())
	}
	spec := attach.Spec{Volume: r.Volume, Backend: volume, ReadOnly: r.ReadOnly}
	device, err := frontend.Attach(ctx, spec)
	if err != nil {
		return api.Attachment{}, errors.Join(fmt.Errorf("make %s device: %w", frontend.Name(), err), volume.Close())
	}
	r.Addresses = addressesOf(volume, nil, r.Addresses)
	e.request, e.volume, e.frontend, e.life = r, volume, frontend, life
	attached := e.attachment(device)
	i.setAttached(e, attached)
	i.options.Log.Info("Attached", "volume", r.Volume, "generation", r.Generation, "device", device.Path)
	if err := i.holdNew(ctx, e); err != nil {
		i.options.Log.Warn("Not held: the device ends with this process", "volume", r.Volume, "cause", err)
	}
	return *attached, nil
}

// attachment is what callers are told of e.
func (e *entry) attachment(d attach.Device) *api.Attachment {
	r := e.request
	return &api.Attachment{
		Volume: r.Volume, ID: r.ID, SizeBytes: r.SizeBytes, Generation: r.Generation, ReadOnly: r.ReadOnly,
		Frontend: e.frontend.Name(), DevicePath: d.Path, Link: d.Link,
	}
}

// choose is the Frontend that was asked for, or the first that works here; the reasons why the others do not are told.
func (i *Initiator) choose(name string) (attach.Frontend, error) {
	var reasons []string
	for _, f := range i.options.Frontends {
		if name != "" && f.Name() != name {
			continue
		}
		err := f.Probe()
		if err == nil {
			return f, nil
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", f.Name(), err))
	}
	if len(reasons) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "frontend: no %.40q here", name)
	}
	return nil, api.Errorf(api.CodeInternal, "no frontend works on this node: %s", strings.Join(reasons, "; "))
}

// Detach ends the device of the volume and closes it.
func (i *Initiator) Detach(ctx context.Context, volume string) error {
	e, err := i.acquire(volume, false)
	if e == nil || err != nil {
		return err
	}
	defer i.release(volume, e)
	if err := i.end(ctx, e); err != nil {
		return err
	}
	i.options.Log.Info("Detached", "volume", volume, "generation", e.request.Generation)
	return nil
}

// end is the reverse of start.
func (i *Initiator) end(ctx context.Context, e *entry) error {
	ctx, cancel := context.WithTimeout(ctx, detachTimeout)
	defer cancel()
	err := e.frontend.Detach(ctx, e.request.Volume)
	if errors.Is(err, attach.ErrBusy) {
		return api.Errorf(api.CodeBusy, "device %s of volume %s is in use", e.attached.DevicePath, e.request.Volume)
	}
	if err != nil {
		// Its number may be another volume's soon.
		i.setEnding(e)
		return fmt.Errorf("end %s device: %w", e.frontend.Name(), err)
	}
	i.setAttached(e, nil)
	if err := i.holding.drop(ctx, e.request.Volume); err != nil {
		// It is told again when it can be; and a successor finds a device that is gone, and drops it.
		i.options.Log.Warn("The holder keeps what is detached", "volume", e.request.Volume, "cause", err)
	}
	if err := e.volume.Close(); err != nil {
		return fmt.Errorf("close volume: %w", err)
	}
	return nil
}

// acquire makes the entry of volume busy with this call. Without create an unknown volume is nil.
func (i *Initiator) acquire(volume string, create bool) (*entry, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e := i.table[volume]
	switch {
	case e != nil && e.busy:
		return nil, api.Errorf(api.CodeBusy, "volume %s: another call is at work on it", volume)
	case e == nil && !create:
		return nil, nil
	case e == nil && len(i.table) >= i.options.MaxVolumes:
		return nil, api.Errorf(api.CodeLimit, "%d volumes are attached, which is the limit of this node", len(i.table))
	case e == nil:
		e = newEntry()
		i.table[volume] = e
	}
	e.busy = true
	return e, nil
}

// release ends the call's hold and forgets an entry that has nothing attached.
func (i *Initiator) release(volume string, e *entry) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e.busy = false
	if e.attached == nil {
		delete(i.table, volume)
	}
}

// setAttached publishes what List shows.
func (i *Initiator) setAttached(e *entry, a *api.Attachment) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e.attached, e.ending = a, false
}

func (i *Initiator) setEnding(e *entry) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e.ending = true
}

func (i *Initiator) setServing(serving bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serving = serving
}

// Ready says why no call is answered, or nil. It waits for no call, be there ever so many.
func (i *Initiator) Ready() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.serving {
		return errors.New("the initiator does not serve its socket")
	}
	return nil
}

// Health tells which Frontends work here.
func (i *Initiator) Health() api.Health {
	h := api.Health{
		Node: i.options.Node, Frontends: []string{}, Attached: len(i.shown()), Held: i.holding.held(),
	}
	for _, f := range i.options.Frontends {
		if f.Probe() == nil {
			h.Frontends = append(h.Frontends, f.Name())
		}
	}
	return h
}
