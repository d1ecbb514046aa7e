package shard

import (
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
)

// shares is a Host with Devices that finish nothing.
type shares struct {
	t       *testing.T
	host    *Host
	devices []*Monitor
	taken   []*buffer.Buffer
}

func newShares(t *testing.T, devices int) *shares {
	t.Helper()
	s := &shares{t: t, host: &Host{o: Options{Pool: buffer.New(32 << 20)}}}
	for range devices {
		s.devices = append(s.devices, &Monitor{host: s.host})
	}
	t.Cleanup(func() {
		for _, b := range s.taken {
			b.Release()
		}
	})
	return s
}

// fill gives a Device requests of a size until no more are admitted.
func (s *shares) fill(m *Monitor, client bool, size int) {
	for {
		b := s.host.o.Pool.Get(size) // a request has its memory before anybody looks at it
		if b == nil {
			return
		}
		if !s.host.admits(m, client) {
			b.Release()
			return
		}
		s.taken = append(s.taken, b)
		m.hold(&operation{}, b)
	}
}

func TestClientsLeaveTheirDeviceToStorenodes(t *testing.T) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		s := newShares(t, 1)
		s.fill(s.devices[0], true, size)
		if !s.host.admits(s.devices[0], false) {
			t.Errorf("clients that write %d bytes at a time fill the device for all", size)
		}
	}
}

func TestHoweverManyDevicesHangOthersFindMemory(t *testing.T) {
	for hung := 1; hung <= 8; hung++ {
		for _, clients := range []bool{false, true} {
			s := newShares(t, hung+1)
			for range 2 { // the first ones found more free than the last
				for _, m := range s.devices[:hung] {
					s.fill(m, clients, 1<<20)
				}
			}
			b := s.host.o.Pool.Get(64 << 10)
			if b == nil {
				t.Fatalf("%d devices hang, filled by clients %v, and have all memory", hung, clients)
			}
			for _, client := range []bool{false, true} {
				if well := s.devices[hung]; !s.host.admits(well, client) {
					t.Errorf("%d devices hang, filled by clients %v: another admits nothing of a client %v", hung, clients, client)
				}
			}
			b.Release()
		}
	}
}

// What is in no Device may wait for other storenodes, which may wait for this one.
func TestClientsGetHalfOfWhatDevicesLeave(t *testing.T) {
	s := newShares(t, 2)
	s.fill(s.devices[0], false, 1<<20)
	pool := s.host.o.Pool
	inUse, limit := pool.Use()
	for range (limit-inUse)/2>>20 + 1 {
		s.taken = append(s.taken, pool.Get(1<<20))
	}
	if s.host.admits(s.devices[1], true) {
		t.Error("a client is admitted")
	}
	if !s.host.admits(s.devices[1], false) {
		t.Error("a storenode is not")
	}
}
