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
