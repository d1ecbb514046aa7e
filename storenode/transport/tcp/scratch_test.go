package tcp_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// Connections of a loop read into the same memory, one after the other; what is left of each must stay its own.
func TestPartsOfFramesOfManyConnectionsAreNotMixed(t *testing.T) {
	o := options(buffer.New(64 << 20))
	l := serve(t, o, func() transport.Handler { return echo() })
	const connections, frames = 6, 30
	r := rand.New(rand.NewPCG(1, 2))
	var conns []net.Conn
	var texts [][]byte
	for i := range connections {
		conns = append(conns, raw(t, l))
		var text []byte
		for range frames {
			size := []int{1, 100, 5000, 70_000}[r.IntN(4)]
			if len(text) == 0 {
				size = 100 // the first one must be small
			}
			text = append(text, encoded(bytes.Repeat([]byte{byte(i + 1)}, size))...)
		}
		texts = append(texts, text)
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	for i, c := range conns {
		reading.Go(func() {
			var got wire.Header
			head := make([]byte, wire.HeaderSize)
			for range frames {
				_, err := io.ReadFull(c, head)
				if err == nil {
					err = got.Decode(head)
				}
				payload := make([]byte, got.PayloadLength)
				if err == nil {
					_, err = io.ReadFull(c, payload)
				}
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				if n := bytes.Count(payload, []byte{byte(i + 1)}); n != len(payload) {
					t.Errorf("connection %d: %d of %d bytes are another's", i, len(payload)-n, len(payload))
				}
			}
		})
	}
	for left, sent := connections, int64(0); left > 0; {
		i := r.IntN(connections)
		if len(texts[i]) == 0 {
			continue
		}
		n := min(len(texts[i]), 1+r.IntN([]int{200, 9000, 90_000}[r.IntN(3)]))
		write(t, conns[i], texts[i][:n])
		for sent += int64(n); o.Metrics.BytesIn.Load() != sent; {
			if runtime.Gosched(); t.Failed() { // each part is read by itself
				return
			}
		}
		if texts[i] = texts[i][n:]; len(texts[i]) == 0 {
			left--
		}
	}
}

func TestAConnectionThatSaysLittleTakesLittleMemory(t *testing.T) {
	const connections, most = 64, 32 << 10
	o := options(buffer.New(1 << 20))
	o.MaxConnections = connections
	greeted := make(chan struct{}, connections)
	l := serve(t, o, func() transport.Handler {
		return &handler{closed: make(chan error, 1), frame: func(_ transport.Conn, f *transport.Frame) error {
			f.Payload.Release()
			greeted <- struct{}{}
			return nil
		}}
	})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	greet := func() {
		write(t, raw(t, l), encoded(make([]byte, 100)))
		<-greeted
	}
	greet() // the first one pays for what all share
	before := heap()
	for range connections - 1 {
		greet()
	}
	if after := heap(); after > before+most*connections {
		t.Errorf("%d connections take %d bytes, want at most %d each", connections, after-before, most)
	}
}
