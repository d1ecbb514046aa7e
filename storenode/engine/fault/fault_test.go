package fault_test

import (
	"errors"
	"testing"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/enginetest"
	"github.com/shale-storage/shale/storenode/engine/fault"
	"github.com/shale-storage/shale/storenode/engine/mem"
)

func TestWithoutFaultsItPassesTheSuite(t *testing.T) {
	enginetest.Run(t, func(_ *testing.T, m *enginetest.Monitor) engine.Device {
		return fault.Wrap(mem.New(mem.Options{Size: 16 << 20, Owner: m}), m, nil)
	})
}

func TestARequestFailsOrWaitsAsThePredicateSays(t *testing.T) {
	m := &enginetest.Monitor{}
	broken := errors.New("broken")
	d := fault.Wrap(mem.New(mem.Options{Size: 1 << 20, Owner: m}), m, func(r *engine.Request) fault.Verdict {
		if r.Op == engine.OpWrite {
			return fault.Verdict{Err: broken}
		}
		return fault.Verdict{Hold: r.Op == engine.OpFlush}
	})
	m.Device = d
	w := &engine.Request{Op: engine.OpWrite, Buf: enginetest.Aligned(4096)}
	enginetest.Do(m, w)
	if !errors.Is(w.Err, broken) {
		t.Errorf("the write ended with %v", w.Err)
	}
	done := make(chan struct{})
	go func() {
		enginetest.Do(m, &engine.Request{Op: engine.OpFlush})
		close(done)
	}()
	for d.Held() == 0 {
		select {
		case <-done:
			t.Fatal("a held request completed")
		default:
		}
	}
	d.Release()
	<-done
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
