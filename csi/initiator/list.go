package initiator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/initiator/api"
)

// confirmTimeout bounds the wait for what the kernel says of a device. It is asked by opening the device, which cannot
// be cancelled.
const confirmTimeout = 5 * time.Second

// List is all that is attached, by name, or one volume alone. A device that somebody else has ended is left out: its
// number may be another volume's. One of which the kernel says nothing is Busy, and is left out of the list of all.
func (i *Initiator) List(ctx context.Context, volume string) ([]api.Attachment, error) {
	all := slices.DeleteFunc(i.shown(), func(s shown) bool { return volume != "" && volume != s.attachment.Volume })
	answers := confirmAll(ctx, all)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	list := []api.Attachment{}
	for n, err := range answers {
		a := all[n].attachment
		switch {
		case err == nil:
			a.Held = i.holding.holds(a.Volume)
			list = append(list, a)
		case errors.Is(err, attach.ErrGone):
			i.options.Log.Warn("Somebody else has ended the device", "volume", a.Volume, "cause", err)
		case volume != "":
			return nil, fmt.Errorf("confirm device of %s: %w", a.Volume, err)
		default:
			i.options.Log.Warn("Leaving a device out of the list", "volume", a.Volume, "cause", err)
		}
	}
	slices.SortFunc(list, func(a, b api.Attachment) int { return strings.Compare(a.Volume, b.Volume) })
	return list, nil
}

// shown is an entry that may be told of.
type shown struct {
	attachment api.Attachment
	frontend   attach.Frontend
	turn       chan struct{}
}

func (e *entry) shown() shown {
	s := shown{attachment: *e.attached, frontend: e.frontend, turn: e.turn}
	s.attachment.Fenced = e.isFenced()
	return s
}

// shown are the entries whose devices have not been ended here; what the kernel says of them is not asked.
func (i *Initiator) shown() []shown {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := make([]shown, 0, len(i.table))
	for _, e := range i.table {
		if e.attached != nil && !e.ending {
			all = append(all, e.shown())
		}
	}
	return all
}

// confirmAll asks for all at once, so that those of which the kernel says nothing are waited for together.
func confirmAll(ctx context.Context, all []shown) []error {
	answers := make([]error, len(all))
	var asking sync.WaitGroup
	for n := range all {
		asking.Go(func() { answers[n] = all[n].confirm(ctx) })
	}
	asking.Wait()
	return answers
}

// confirm is the Frontend's. Only one at a time asks: one that is stuck goes on after its caller has gone, and must
// stay the only one.
func (s shown) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	busy := api.Errorf(api.CodeBusy, "the kernel does not say what %s is now", s.attachment.DevicePath)
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return busy
	}
	answer := make(chan error, 1)
	go func() {
		answer <- s.frontend.Confirm(s.attachment.Volume)
		<-s.turn
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return busy
	}
}
