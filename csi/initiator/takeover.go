package initiator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/holder"
	"github.com/shale-storage/shale/csi/initiator/api"
)

const (
	// resumePause is the time between tries to open the Volume of an adopted device.
	resumePause = 100 * time.Millisecond
	// resumeTimeout bounds one try.
	resumeTimeout = 20 * time.Second
	// goneTimeout bounds the wait for the kernel to say that an adopted device has gone. It answers at once, unless it
	// waits for the device to be resumed.
	goneTimeout = time.Second
	// maxRaised bounds the attachments whose lives are remembered after their end. One that is forgotten is Fenced, and
	// then has the clock's.
	maxRaised = 4096
)

// errEnded says that the kernel has ended the device meanwhile.
var errEnded = errors.New("device has ended")

// errWornOut says that an attachment was taken over more often than its generation has room for.
var errWornOut = errors.New("no more lives of this attachment: detach the volume and attach it again")

// kept is what the holder remembers of an attachment. Fields may be added, not changed: another version of this program
// reads them.
type kept struct {
	Request  api.AttachRequest `json:"request"`
	Frontend string            `json:"frontend"`
	// Life is the number within the attachment under which its Volume was opened last, or was about to be.
	Life uint32 `json:"life"`
	// State is the Frontend's.
	State []byte `json:"state"`
}

// openAs is the request to open the Volume in a life of its attachment. Readers share a generation, and have nothing
// that could come too late.
func openAs(r api.AttachRequest, life uint32) api.AttachRequest {
	if !r.ReadOnly {
		r.Generation += uint64(life)
	}
	return r
}

// errCannotBeHeld says that a holder would be of no use.
var errCannotBeHeld = errors.New("no other process could go on with it: that takes Linux 6.9")

// holdNew has the holder keep a device that was made just now. Where none is wanted that is no error.
func (i *Initiator) holdNew(ctx context.Context, e *entry) error {
	if i.options.Holder == "" {
		return nil
	}
	held, ok := e.frontend.Held(e.request.Volume)
	if !ok {
		return errCannotBeHeld
	}
	return i.hold(ctx, e, held)
}

// hold has the holder keep e in its current life.
func (i *Initiator) hold(ctx context.Context, e *entry, h attach.Held) error {
	state, err := json.Marshal(kept{Request: e.request, Frontend: e.frontend.Name(), Life: e.life, State: h.State})
	if err != nil {
		return fmt.Errorf("encode attachment: %w", err)
	}
	return i.holding.keep(ctx, holder.Item{Name: e.request.Volume, State: state, Files: h.Files})
}

// takeOver adopts the devices of an earlier process. Their I/O waits for resume, and so may whoever asks the kernel
// about them: that is not done here.
func (i *Initiator) takeOver(ctx context.Context) ([]*entry, error) {
	items, err := i.holding.take(ctx)
	if err != nil {
		return nil, fmt.Errorf("take over devices: %w", err)
	}
	var adopted []*entry
	for _, item := range items {
		e, err := i.adopt(item)
		switch {
		case err == nil:
			adopted = append(adopted, e)
		case errors.Is(err, attach.ErrUnreadable), errors.Is(err, attach.ErrGone):
			i.options.Log.Warn("Cannot take over device", "volume", item.Name, "cause", err)
			item.Close()
			if err := i.holding.drop(ctx, item.Name); err != nil {
				return nil, err
			}
		default:
			// The holder still has it, for the next process.
			return nil, fmt.Errorf("take over %s: %w", item.Name, err)
		}
	}
	return adopted, nil
}

// adopt makes a busy entry of an item. Of its errors only ErrUnreadable and ErrGone are for good.
func (i *Initiator) adopt(item holder.Item) (*entry, error) {
	var k kept
	if err := json.Unmarshal(item.State, &k); err != nil {
		return nil, fmt.Errorf("decode attachment: %w: %w", attach.ErrUnreadable, err)
	}
	if err := k.Request.Validate(); err != nil || k.Request.Volume != item.Name {
		return nil, errors.Join(fmt.Errorf("attachment under the name %.140q is of %.140q: %w", item.Name,
			k.Request.Volume, attach.ErrUnreadable), err)
	}
	frontend := i.frontend(k.Frontend)
	if frontend == nil {
		return nil, fmt.Errorf("no frontend %.40q here: %w", k.Frontend, attach.ErrUnreadable)
	}
	held := attach.Held{State: k.State, Files: item.Files}
	device, err := frontend.Adopt(item.Name, held)
	if err != nil {
		return nil, err
	}
	e := newEntry()
	e.busy, e.request, e.frontend, e.life, e.adopted = true, k.Request, frontend, k.Life, held
	e.attached = e.attachment(device)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.table[item.Name] = e
	return e, nil
}

func (i *Initiator) frontend(name string) attach.Frontend {
	for _, f := range i.options.Frontends {
		if f.Name() == name {
			return f
		}
	}
	return nil
}

// resume opens the Volume of an adopted device, however long that takes, and lets its I/O go on. Only an attachment
// that is of no use any more is given up.
func (i *Initiator) resume(ctx context.Context, e *entry) {
	name := e.request.Volume
	defer i.release(name, e)
	err := i.lookForGone(ctx, e)
	if err == nil {
		err = i.beginLife(e)
	}
	if err == nil {
		err = i.keepTrying(ctx, e)
	}
	switch {
	case err == nil:
		i.options.Log.Info("Resumed", "volume", name, "generation", e.request.Generation, "life", e.life,
			"device", e.attached.DevicePath)
	case ctx.Err() != nil:
		// The next process will find what this one has not resumed.
	default:
		i.options.Log.Error("Giving up device", "volume", name, "device", e.attached.DevicePath, "cause", err)
		i.giveUp(ctx, e)
	}
}

// lookForGone says ErrGone if the kernel says that somebody else has ended the device. Any other answer, and none,
// tells nothing: the descriptors are the volume's whatever has its number, and before the device is given to anybody
// it is confirmed.
func (i *Initiator) lookForGone(ctx context.Context, e *entry) error {
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	err := e.shown().confirm(ctx)
	if errors.Is(err, attach.ErrGone) {
		return err
	}
	if err != nil {
		i.options.Log.Warn("Resuming a device that the kernel says nothing of", "volume", e.request.Volume,
			"cause", err)
	}
	return nil
}

// keepTrying calls tryResume until it succeeds or cannot any more.
func (i *Initiator) keepTrying(ctx context.Context, e *entry) error {
	tries := 0
	return wait.PollUntilContextCancel(ctx, resumePause, true, func(ctx context.Context) (bool, error) {
		tries++
		err := i.tryResume(ctx, e)
		if err == nil || isFinal(err) {
			return true, err
		}
		// Told ever more seldom: at tries 1, 2, 4, 8 and so on.
		if tries&(tries-1) == 0 {
			i.options.Log.Warn("Cannot resume device yet", "volume", e.request.Volume, "tries", tries, "cause", err)
		}
		return false, nil
	})
}

// isFinal says that trying again is useless.
func isFinal(err error) bool {
	code := api.CodeOf(err)
	return code == api.CodeFenced || code == api.CodeInvalid || errors.Is(err, errWornOut) ||
		errors.Is(err, errEnded)
}

// beginLife gives e a life that is higher than those of all processes before: only that fences what they have left on
// its way. One is enough for all tries to resume e, since none but the last sends anything that could come too late;
// more would run ahead of the clock, and so of the next process.
func (i *Initiator) beginLife(e *entry) error {
	if e.life == v1alpha1.AttachGenerationStep-1 {
		return errWornOut
	}
	e.life = max(e.life+1, i.options.Life)
	i.raise(e.request, e.life)
	return nil
}

// open opens the Volume for r and tells in which life. A process that began with a clock that had fallen back is
// Fenced by what ran before on this node; then it takes the clock's life, if that is higher by now, for this attachment
// alone: a clock that is ahead would leave a life behind that later processes do not reach.
func (i *Initiator) open(ctx context.Context, r api.AttachRequest) (Volume, uint32, error) {
	life := i.lifeOf(r)
	volume, err := i.options.Open(ctx, openAs(r, life))
	now := i.clockLife()
	if api.CodeOf(err) != api.CodeFenced || r.ReadOnly || now <= life {
		return volume, life, err
	}
	i.options.Log.Info("Fenced: trying in the life of the clock", "volume", r.Volume, "life", life, "clock", now)
	i.raise(r, now)
	volume, err = i.options.Open(ctx, openAs(r, now))
	return volume, now, err
}

// clockLife is a second behind, since a process that begins within this second, after this one, must have a higher one.
func (i *Initiator) clockLife() uint32 {
	if i.options.Clock == nil {
		return 0
	}
	return max(i.options.Clock(), 1) - 1
}

// raised is the life that an attachment has come to, which the storenodes may know: within a process it never falls.
type raised struct {
	generation uint64
	life       uint32
}

// lifeOf is the life in which the attachment is opened anew.
func (i *Initiator) lifeOf(r api.AttachRequest) uint32 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if own := i.raised[r.Volume]; own.generation == r.Generation {
		return max(i.options.Life, own.life)
	}
	return i.options.Life
}

// raise remembers the life of an attachment that is higher than that of this process.
func (i *Initiator) raise(r api.AttachRequest, life uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for name := range i.raised {
		if len(i.raised) < maxRaised {
			break
		}
		if i.table[name] == nil {
			delete(i.raised, name)
		}
	}
	i.raised[r.Volume] = raised{generation: r.Generation, life: life}
}

// asAttached is a Volume of the size that its device has.
type asAttached struct {
	Volume
	size int64
}

// Size in bytes.
func (a asAttached) Size() int64 { return a.size }

// tryResume opens the Volume in e's life. The holder knows of it before the storenodes do, so that no later process
// begins the same one.
func (i *Initiator) tryResume(ctx context.Context, e *entry) error {
	// Each address that is of nobody any more takes a second.
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout+time.Duration(len(e.request.Addresses))*time.Second)
	defer cancel()
	if err := i.hold(ctx, e, e.adopted); err != nil {
		return fmt.Errorf("hold life %d: %w", e.life, err)
	}
	volume, err := i.options.Open(ctx, openAs(e.request, e.life))
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	// To give up is final, so a Volume that has grown since will do: the device ends where it did.
	if volume.Size() < e.request.SizeBytes {
		return errors.Join(api.Errorf(api.CodeInvalid, "sizeBytes: %d, but the volume has %d", e.request.SizeBytes,
			volume.Size()), volume.Close())
	}
	backend := asAttached{Volume: volume, size: e.request.SizeBytes}
	spec := attach.Spec{Volume: e.request.Volume, Backend: backend, ReadOnly: e.request.ReadOnly}
	if err := e.frontend.Resume(spec); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", errEnded, err), volume.Close())
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	e.volume, e.adopted = volume, attach.Held{}
	return nil
}

// giveUp lets the device fail its I/O and go.
func (i *Initiator) giveUp(ctx context.Context, e *entry) {
	name := e.request.Volume
	if err := errors.Join(i.holding.drop(ctx, name), e.frontend.Abandon(name)); err != nil {
		i.options.Log.Warn("Cannot end device that was given up", "volume", name, "cause", err)
	}
	i.setAttached(e, nil)
}
