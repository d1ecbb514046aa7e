package oracle_test

import (
	"testing"

	"github.com/shale-storage/shale/storenode/sim/oracle"
)

func TestAReadIsNeitherOlderThanWhatIsSettledNorNewerThanWhatBegan(t *testing.T) {
	h := oracle.New().Block(7)
	first := h.Begin(1)
	if err := h.Seen(0, h.Settled()); err != nil {
		t.Errorf("zeros while the first write is in flight: %v", err)
	}
	h.End(first)
	if h.Seen(0, h.Settled()) == nil {
		t.Error("zeros were accepted after a write was acknowledged")
	}
	if h.Seen(2, h.Settled()) == nil {
		t.Error("a value nobody wrote was accepted")
	}
	h.Begin(2)
	floor := h.Settled()
	if err := h.Seen(2, floor); err != nil {
		t.Errorf("a write in flight may be seen: %v", err)
	}
	if h.Seen(1, h.Settled()) == nil {
		t.Error("an older value was accepted after a newer one was read")
	}
}

func TestLossOfPowerTakesWhatWasNotFlushed(t *testing.T) {
	o := oracle.New()
	h := o.Block(0)
	h.End(h.Begin(1))
	h.Flushed(h.Settled())
	h.End(h.Begin(2))
	o.LosePower()
	if err := h.Seen(1, h.Settled()); err != nil {
		t.Error(err)
	}
	if h.Seen(0, h.Settled()) == nil {
		t.Error("zeros were accepted after a flush")
	}
}

func TestLossOfPowerTearsNoBlockThatWasFlushedAndNotTouchedSince(t *testing.T) {
	o := oracle.New()
	flushed, touched := o.Block(0), o.Block(1)
	for _, h := range []*oracle.History{flushed, touched} {
		h.End(h.Begin(1))
		h.Flushed(h.Settled())
	}
	touched.Begin(2)
	o.LosePower()
	if flushed.Torn || !touched.Torn {
		t.Errorf("torn: the flushed one %v, the touched one %v", flushed.Torn, touched.Torn)
	}
	touched.End(touched.Begin(3))
	if touched.Torn {
		t.Error("torn after it was written anew")
	}
}
