package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/store"
)

// rare is a model of what a Device remembers of Replicas besides the Blocks of a workload: their records, generations
// and marks of a loss of power, and that they are there at all. The first is the workload's, the others are guests that
// come and go and hold one Block at most.
type rare struct {
	replicas []*remembered
	// names are how many guests there were.
	names int
	// buffers are those of changes on their way.
	buffers map[*buffer.Buffer]bool
	// err is why something was refused that never may be.
	err error
}

// remembered is what is known of one Replica.
type remembered struct {
	name   int
	handle store.Handle
	// created, deleted and written are 0 or 1; sound counts how often it was said.
	created, deleted, written, epoch, generation, sound value
	// lossy: it bore the mark when the Device was opened, and when it was told of the first Sound.
	lossy bool
	// open are the changes on their way.
	open int
}

// value only grows. Of what was asked for some was acknowledged, and of that some has been flushed since.
type value struct{ asked, told, flushed uint64 }

// may reports whether it may be n after the end of the process, or of the power.
func (v *value) may(n uint64, powerLost bool) bool {
	least := v.told
	if powerLost {
		least = v.flushed
	}
	return n >= least && n <= v.asked
}

// is makes it what was found.
func (v *value) is(n uint64) { *v = value{n, n, n} }

// noted is what a flush makes durable of a value if it succeeds.
type noted struct {
	v *value
	n uint64
}

func flushed(all []noted) {
	for _, x := range all {
		x.v.flushed = max(x.v.flushed, x.n)
	}
}

// guestSize is that of the guests, in bytes; maxGuests how many there are at a time.
const guestSize, maxGuests = 1 << 20, 4

// begin tells of the workload's Replica, which is there and flushed.
func (a *rare) begin(h store.Handle) {
	m := &remembered{handle: h}
	m.created.is(1)
	a.replicas = []*remembered{m}
}

// covered is what a flush that begins now makes durable: what was acknowledged, and of what is to be remembered all
// that was asked for.
func (a *rare) covered() (all []noted) {
	for _, m := range a.replicas {
		all = append(all, noted{&m.written, m.written.told})
		for _, v := range []*value{&m.created, &m.deleted, &m.epoch, &m.generation, &m.sound} {
			all = append(all, noted{v, v.asked})
		}
	}
	return all
}

// submit changes something.
func (a *rare) submit(r *rig, chance *rand.Rand, open *int) {
	kind := chance.IntN(8)
	if kind == 0 {
		a.create(r, open)
		return
	}
	m := a.replicas[chance.IntN(len(a.replicas))]
	if m.created.told == 0 || m.deleted.asked > 0 {
		return
	}
	switch {
	case kind == 1 && m.name > 0 && m.open == 0:
		r.s.DeleteReplica(key(m.name), a.asks(m, &m.deleted, 1, open, func() { m.deleted.flushed = 1 }))
	case kind < 4:
		epoch := m.epoch.asked + 1
		r.s.SetRecord(m.handle, recordOf(epoch), a.asks(m, &m.epoch, epoch, open, nil))
	case kind < 6: // now and then a lower one, which changes nothing
		g := m.generation.asked + 1
		if chance.IntN(3) == 0 {
			g -= min(g, 3)
		}
		r.s.SetGeneration(m.handle, ident.Generation(g), a.asks(m, &m.generation, g, open, nil))
	case kind == 6:
		r.s.SetSound(m.handle, a.asks(m, &m.sound, m.sound.asked+1, open, nil))
	case m.name > 0 && m.written.asked == 0:
		a.write(r, m, open)
	}
}

// recordOf is the record of an Epoch.
func recordOf(epoch uint64) membership.Record {
	if epoch == 0 {
		return membership.Record{}
	}
	id := ident.ReplicaID(1 + epoch%3)
	all := []membership.Replica{{ID: id, Device: ident.UUID{byte(epoch)}, Address: fmt.Sprintf("n%d:7800", epoch)}}
	return membership.Record{Epoch: ident.Epoch(epoch), Primary: id, InSync: []ident.ReplicaID{id}, Replicas: all}
}

// asks notes that a value is asked for; the answer is told to what it returns.
func (a *rare) asks(m *remembered, v *value, n uint64, open *int, then func()) func(error) {
	v.asked = max(v.asked, n)
	m.open++
	*open++
	return func(err error) {
		m.open--
		*open--
		if err != nil {
			a.err = err
			return
		}
		if v.told = max(v.told, n); then != nil {
			then()
		}
	}
}

func (a *rare) create(r *rig, open *int) {
	if len(a.replicas) > maxGuests {
		return
	}
	a.names++
	m := &remembered{name: a.names}
	a.replicas = append(a.replicas, m)
	done := a.asks(m, &m.created, 1, open, nil)
	r.s.CreateReplica(key(m.name), guestSize, func(h store.Handle, err error) {
		m.handle = h
		done(err)
	})
}

// guestWrite is the only one of a guest.
type guestWrite struct {
	a    *rare
	io   store.IO
	done func(error)
}

// IODone implements store.Completer.
func (w *guestWrite) IODone(io *store.IO) {
	delete(w.a.buffers, io.Buf)
	io.Buf.Release()
	w.done(io.Err)
}

func (a *rare) write(r *rig, m *remembered, open *int) {
	w := &guestWrite{a: a, done: a.asks(m, &m.written, 1, open, nil)}
	w.io = store.IO{
		Op: store.OpWrite, Replica: m.handle, Length: block, Buf: pool.Get(block), Seq: 1, Epoch: 1, Done: w,
	}
	copy(w.io.Buf.Bytes(), fill(block, uint64(m.name)))
	a.buffers[w.io.Buf] = true
	r.s.Submit(&w.io)
}

// check compares what a Device remembers with what it may.
func (a *rare) check(t *testing.T, r *rig, powerLost bool) {
	t.Helper()
	if a.err != nil {
		t.Errorf("refused: %v", a.err)
	}
	for _, m := range a.replicas {
		if err := m.check(r, powerLost); err != nil {
			t.Errorf("replica %d: %v", m.name, err)
		}
	}
	if found := len(r.s.Replicas()); found > len(a.replicas) {
		t.Errorf("%d replicas of %d", found, len(a.replicas))
	}
}

func (m *remembered) check(r *rig, powerLost bool) error {
	h, there := r.s.Lookup(key(m.name))
	switch {
	case !there && (m.deleted.asked > 0 || m.created.may(0, powerLost)):
		return nil
	case !there:
		return errors.New("is gone")
	case m.deleted.told > 0:
		return errors.New("is back")
	}
	info, err := r.s.Info(h)
	if err != nil {
		return err
	}
	epoch := uint64(info.Record.Epoch)
	switch {
	case !m.epoch.may(epoch, powerLost):
		return fmt.Errorf("epoch %d, may be %+v", epoch, m.epoch)
	case !reflect.DeepEqual(info.Record, recordOf(epoch)):
		return fmt.Errorf("record %+v, want %+v", info.Record, recordOf(epoch))
	case !m.generation.may(uint64(info.Generation), powerLost):
		return fmt.Errorf("generation %d, may be %+v", info.Generation, m.generation)
	case powerLost && !info.Lossy:
		return errors.New("lost power and does not know it")
	case !powerLost && info.Lossy && (!m.lossy || m.sound.told > 0),
		!powerLost && !info.Lossy && m.lossy && m.sound.asked == 0:
		return fmt.Errorf("lossy %v, was %v before %+v", info.Lossy, m.lossy, m.sound)
	}
	return m.checkBlock(r, h, powerLost)
}

// checkBlock reads the Block of a guest, which has never held anything else.
func (m *remembered) checkBlock(r *rig, h store.Handle, powerLost bool) error {
	if m.name == 0 {
		return nil
	}
	got, err := r.read(h, 0, block)
	switch {
	case isTorn(err) && powerLost && m.written.flushed < m.written.asked:
	case err != nil:
		return err
	case bytes.Equal(got, make([]byte, block)) && m.written.may(0, powerLost):
	case bytes.Equal(got, fill(block, uint64(m.name))) && m.written.may(1, powerLost):
	default:
		return fmt.Errorf("its block holds %x, may be %+v", got[:8], m.written)
	}
	return nil
}

// adopt takes what is there now, which the Checkpoints of Open have made durable, as the truth. What guests have
// written is written again, and is to be flushed.
func (a *rare) adopt(t *testing.T, r *rig) {
	t.Helper()
	there := a.replicas[:0]
	for _, m := range a.replicas {
		h, ok := r.s.Lookup(key(m.name))
		if !ok {
			continue
		}
		info, _ := r.s.Info(h)
		m.handle, m.lossy, m.open = h, info.Lossy, 0
		m.created.is(1)
		m.deleted.is(0)
		m.sound.is(0)
		m.epoch.is(uint64(info.Record.Epoch))
		m.generation.is(uint64(info.Generation))
		if m.written.asked > 0 {
			r.mustWrite(t, h, 0, fill(block, uint64(m.name)))
			m.written.is(1)
		}
		there = append(there, m)
	}
	a.replicas = there
}
