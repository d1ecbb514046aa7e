package setup

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/shale-storage/shale/storenode/agent"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/store"
)

// devices opens Devices by io_uring for the Host. It implements agent.Opener.
type devices struct {
	host *shard.Host
	boot uint64
	log  *slog.Logger

	mu   sync.Mutex
	open []*store.Store
}

var _ agent.Opener = (*devices)(nil)

// Probe implements agent.Opener.
func (d *devices) Probe(path string) (agent.Found, error) { return probe(path) }

// Format implements agent.Opener.
func (d *devices) Format(path, pool string) error {
	if found, err := probe(path); err != nil || found.Content != agent.ContentEmpty {
		return errors.Join(fmt.Errorf("format %s: %w", path, store.ErrNotEmpty), err)
	}
	return process.Format(d.host, path, pool, d.boot, d.log)
}

// Serve implements agent.Opener.
func (d *devices) Serve(path string, overcommitPercent int32) (ident.UUID, error) {
	s, err := process.Serve(d.host, path, float64(overcommitPercent)/100, d.boot, d.log)
	if err != nil {
		return ident.UUID{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, s)
	return s.Device(), nil
}

// Usage implements agent.Opener.
func (d *devices) Usage(id ident.UUID) (agent.DeviceUsage, error) {
	for _, s := range d.all() {
		if s.Device() != id {
			continue
		}
		s.Owner().Enter()
		defer s.Owner().Leave()
		u := s.Usage()
		return agent.DeviceUsage{
			Capacity: u.Capacity, Used: u.Used, Reserved: u.Reserved, Replicas: len(s.Replicas()),
		}, s.Health()
	}
	return agent.DeviceUsage{}, fmt.Errorf("device %s is not in service", id)
}

func (d *devices) all() []*store.Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// close ends the service of all Devices, each with a last Checkpoint.
func (d *devices) close() error {
	var errs []error
	for _, s := range d.all() {
		errs = append(errs, d.host.RemoveDevice(s.Device()), s.Close())
	}
	return errors.Join(errs...)
}
