package mem_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/engine/enginetest"
	"github.com/shale-storage/shale/storenode/engine/mem"
)

func TestTheMemoryDevicePassesTheSuite(t *testing.T) {
	enginetest.Run(t, func(_ *testing.T, m *enginetest.Monitor) engine.Device {
		return mem.New(mem.Options{Size: 16 << 20, Owner: m})
	})
}

type ignore struct{}

func (ignore) Complete(*engine.Request) {}

func TestACrashKeepsWhatWasFlushedAndAnyPartOfTheRest(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(200) {
		chance := rand.New(rand.NewPCG(seed, 0))
		d := mem.New(mem.Options{Size: 1 << 20})
		step := func(r *engine.Request) {
			r.Done = ignore{}
			d.Submit(r)
			d.Drain()
		}
		step(&engine.Request{Op: engine.OpWrite, Buf: bytes.Repeat([]byte{1}, 4096)})
		step(&engine.Request{Op: engine.OpFlush})
		step(&engine.Request{Op: engine.OpWrite, Offset: 4096, Buf: bytes.Repeat([]byte{2}, 4096)})
		after := d.Crash(chance, nil)
		got := make([]byte, 8192)
		after.Submit(&engine.Request{Op: engine.OpRead, Buf: got, Done: ignore{}})
		after.Drain()
		if !bytes.Equal(got[:4096], bytes.Repeat([]byte{1}, 4096)) {
			t.Fatalf("seed %d: a flushed write was lost", seed)
		}
		switch n := bytes.Count(got[4096:], []byte{2}); n {
		case 0:
			seen["lost"] = true
		case 4096:
			seen["kept"] = true
		default:
			seen["torn"] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("unflushed writes were only %v", seen)
	}
}
