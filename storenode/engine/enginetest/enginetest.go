// Package enginetest is the suite that every engine passes.
package enginetest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"github.com/shale-storage/shale/storenode/engine"
)

// Monitor is a plain Owner: a lock that kicks the Device when it is given back.
type Monitor struct {
	mu     sync.Mutex
	Device engine.Device
}

// Enter implements engine.Owner.
func (m *Monitor) Enter() { m.mu.Lock() }

// Leave implements engine.Owner.
func (m *Monitor) Leave() {
	if m.Device != nil {
		m.Device.Kick()
	}
	m.mu.Unlock()
}

// Aligned is memory for O_DIRECT.
func Aligned(n int) []byte {
	raw := make([]byte, n+4096)
	skip := (4096 - int(uintptr(unsafe.Pointer(&raw[0]))%4096)) % 4096
	return raw[skip : skip+n : skip+n]
}

// Waiter is a Completer that a test can wait on.
type Waiter struct{ done chan struct{} }

// Complete implements engine.Completer.
func (w *Waiter) Complete(*engine.Request) { w.done <- struct{}{} }

// Do submits the requests together and waits for all.
func Do(m *Monitor, requests ...*engine.Request) {
	w := &Waiter{done: make(chan struct{}, len(requests))}
	m.Enter()
	for _, r := range requests {
		r.Done = w
		m.Device.Submit(r)
	}
	m.Leave()
	for range requests {
		<-w.done
	}
}

// Run runs the suite; open makes a Device of at least 8 MiB that is owned by the Monitor.
func Run(t *testing.T, open func(t *testing.T, m *Monitor) engine.Device) {
	t.Helper()
	start := func(t *testing.T) *Monitor {
		t.Helper()
		m := &Monitor{}
		d := open(t, m)
		m.Enter()
		m.Device = d
		m.Leave()
		return m
	}
	t.Run("what is written is read back", func(t *testing.T) { readBack(t, start(t)) })
	t.Run("many requests in flight each complete once", func(t *testing.T) { many(t, start(t)) })
	t.Run("a bad request fails alone", func(t *testing.T) { bad(t, start(t)) })
	t.Run("after close requests complete with ErrClosed", func(t *testing.T) { closed(t, start(t)) })
}

func readBack(t *testing.T, m *Monitor) {
	t.Helper()
	want, got := Aligned(64<<10), Aligned(64<<10)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	w := &engine.Request{Op: engine.OpWrite, Offset: 1 << 20, Buf: want}
	Do(m, w)
	flush := &engine.Request{Op: engine.OpFlush}
	Do(m, flush)
	r := &engine.Request{Op: engine.OpRead, Offset: 1 << 20, Buf: got}
	Do(m, r)
	discard := &engine.Request{Op: engine.OpDiscard, Offset: 2 << 20, Length: 1 << 20}
	Do(m, discard)
	if !m.Device.Info().Discard && errors.Is(discard.Err, errors.ErrUnsupported) {
		discard.Err = nil
	}
	if err := errors.Join(w.Err, flush.Err, r.Err, discard.Err); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Error("read other bytes than were written")
	}
	if err := m.Device.Close(); err != nil {
		t.Error(err)
	}
}

func many(t *testing.T, m *Monitor) {
	t.Helper()
	const n = 1500 // more than any ring has room for
	requests := make([]*engine.Request, n)
	for i := range requests {
		b := Aligned(4096)
		b[0], b[4095] = byte(i), byte(i>>8)
		requests[i] = &engine.Request{Op: engine.OpWrite, Offset: int64(i) * 4096, Buf: b}
	}
	Do(m, requests...)
	for i, r := range requests {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		clear(r.Buf)
		requests[i] = &engine.Request{Op: engine.OpRead, Offset: r.Offset, Buf: r.Buf}
	}
	Do(m, requests...)
	for i, r := range requests {
		if r.Err != nil || r.Buf[0] != byte(i) || r.Buf[4095] != byte(i>>8) {
			t.Fatalf("block %d: %v, %d %d", i, r.Err, r.Buf[0], r.Buf[4095])
		}
	}
	if err := m.Device.Close(); err != nil {
		t.Error(err)
	}
}

func bad(t *testing.T, m *Monitor) {
	t.Helper()
	beyond := &engine.Request{Op: engine.OpRead, Offset: m.Device.Info().Size, Buf: Aligned(4096)}
	odd := &engine.Request{Op: engine.OpWrite, Offset: 100, Buf: Aligned(4096)}
	good := &engine.Request{Op: engine.OpRead, Buf: Aligned(4096)}
	Do(m, beyond, odd, good)
	if beyond.Err == nil || odd.Err == nil || good.Err != nil {
		t.Errorf("beyond the end: %v; not aligned: %v; good: %v", beyond.Err, odd.Err, good.Err)
	}
	if err := m.Device.Close(); err != nil {
		t.Error(err)
	}
}

func closed(t *testing.T, m *Monitor) {
	t.Helper()
	if err := m.Device.Close(); err != nil {
		t.Fatal(err)
	}
	var late error
	r := &engine.Request{Op: engine.OpRead, Buf: Aligned(4096), Done: completer(func(r *engine.Request) { late = r.Err })}
	m.Enter()
	m.Device.Submit(r)
	m.Leave()
	if !errors.Is(late, engine.ErrClosed) {
		t.Errorf("completed with %v", late)
	}
}

type completer func(*engine.Request)

func (c completer) Complete(r *engine.Request) { c(r) }
