package initiator

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/shale-storage/shale/csi/initiator/api"
)

// learnEvery is how often the holder is told where the Volumes are now. Storenodes are replaced within hours.
const learnEvery = time.Minute

// learnAll has the holder keep, of each device, the addresses at which its Volume can be found now. Those of the
// request are of the day of the attachment, and a successor that knew no others would wait for ever once they are gone.
func (i *Initiator) learnAll(ctx context.Context) {
	for _, s := range i.shown() {
		if ctx.Err() != nil {
			return
		}
		e, err := i.acquire(s.attachment.Volume, false)
		if e == nil || err != nil {
			// It is ended or busy, and looked at the next time.
			continue
		}
		i.learn(ctx, e, nil)
		i.release(s.attachment.Volume, e)
	}
}

// learn adds the addresses that the Volume of e knows, and those that somebody told, to what the holder keeps. What the
// holder could not be told counts as not learned, so that it is told the next time.
func (i *Initiator) learn(ctx context.Context, e *entry, told []string) {
	if e.volume == nil || e.ending {
		return
	}
	before := e.request.Addresses
	e.request.Addresses = addressesOf(e.volume, told, before)
	if slices.Equal(e.request.Addresses, before) {
		return
	}
	// Not broken off by the end of this process: a device that the holder does not confirm is not left to a successor.
	if err := i.holdNew(context.WithoutCancel(ctx), e); err != nil && !errors.Is(err, errCannotBeHeld) {
		i.options.Log.Warn("The holder does not know where the volume is now", "volume", e.request.Volume, "cause", err)
		e.request.Addresses = before
	}
}

// addressesOf are those that the Volume knows, then those that somebody told, then those known before, each once: the
// newest first, as many as a request may have.
func addressesOf(v Volume, told, before []string) []string {
	var all []string
	for _, address := range slices.Concat(v.Addresses(), told, before) {
		if !slices.Contains(all, address) {
			all = append(all, address)
		}
	}
	return all[:min(len(all), api.MaxAddresses)]
}
