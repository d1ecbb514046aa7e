package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/shale-storage/shale/storenode/agent"
	"github.com/shale-storage/shale/storenode/apart"
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
	// taken are the paths of Devices that are being opened, in service, or being closed. Opening writes to a Device, so
	// what has the UUID of one of these, a copy or a second path to the SSD, is refused before.
	taken map[ident.UUID]string
	// files are what the paths led to when the Devices were opened.
	files map[ident.UUID]os.FileInfo
}

var _ agent.Opener = (*devices)(nil)

// Probe implements agent.Opener.
func (d *devices) Probe(path string) (found agent.Found, err error) {
	apart.Call(func() { found, err = probe(path) })
	return found, err
}

// Format implements agent.Opener.
func (d *devices) Format(path, pool string) error {
	if found, err := d.Probe(path); err != nil || found.Content != agent.ContentEmpty {
		return errors.Join(fmt.Errorf("format %s: %w", path, store.ErrNotEmpty), err)
	}
	return process.Format(d.host, path, pool, powered(path, d.boot), d.log)
}

// Serve implements agent.Opener.
func (d *devices) Serve(path string, overcommitPercent int32) (ident.UUID, error) {
	found, err := d.Probe(path)
	if err == nil && found.Content != agent.ContentOurs {
		err = fmt.Errorf("serve device %s: it holds %s: %w", path, found.What, errNotOurs)
	}
	if err != nil {
		return ident.UUID{}, err
	}
	if err := d.take(found.UUID, path); err != nil {
		return ident.UUID{}, err
	}
	if err := d.serve(path, overcommitPercent); err != nil {
		d.giveUp(found.UUID)
		return ident.UUID{}, err
	}
	return found.UUID, nil
}

// errNotOurs refuses to serve what is not, or not any more, a Device of Shale.
var errNotOurs = errors.New("it is not a device of Shale that can be served")

func (d *devices) serve(path string, overcommitPercent int32) error {
	file, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("serve device: %w", err)
	}
	s, err := process.Serve(d.host, path, float64(overcommitPercent)/100, powered(path, d.boot), d.log)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, s)
	if d.files == nil {
		d.files = map[ident.UUID]os.FileInfo{}
	}
	d.files[s.Device()] = file
	return nil
}

// take lets one path alone go on with a Device, until giveUp.
func (d *devices) take(id ident.UUID, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if other, taken := d.taken[id]; taken {
		return fmt.Errorf("serve device %s at %s: %w at %s", id, path, shard.ErrInService, other)
	}
	if d.taken == nil {
		d.taken = map[ident.UUID]string{}
	}
	d.taken[id] = path
	return nil
}

func (d *devices) giveUp(id ident.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.taken, id)
}

// Usage implements agent.Opener.
func (d *devices) Usage(id ident.UUID) (agent.DeviceUsage, error) {
	s := d.find(id)
	if s == nil {
		return agent.DeviceUsage{}, fmt.Errorf("device %s is not in service", id)
	}
	s.Owner().Enter()
	defer s.Owner().Leave()
	u := s.Usage()
	return agent.DeviceUsage{
		Capacity: u.Capacity, Used: u.Used, Reserved: u.Reserved, Replicas: len(s.Replicas()),
	}, s.Health()
}

// IsThere implements agent.Opener. An SSD that is pulled takes its device node with it, and comes back as another one,
// even under the same name. What cannot be looked at counts as there.
func (d *devices) IsThere(id ident.UUID) bool {
	s := d.find(id)
	if s == nil {
		return false
	}
	now, err := os.Stat(s.Path())
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return os.SameFile(d.files[id], now)
}

// Release implements agent.Opener.
func (d *devices) Release(id ident.UUID) error {
	s := d.find(id)
	if s == nil {
		return nil
	}
	d.mu.Lock()
	d.open = slices.DeleteFunc(slices.Clone(d.open), func(other *store.Store) bool { return other == s })
	delete(d.files, id)
	d.mu.Unlock()
	err := errors.Join(d.host.RemoveDevice(id), s.Close())
	d.giveUp(id)
	return err
}

func (d *devices) find(id ident.UUID) *store.Store {
	for _, s := range d.all() {
		if s.Device() == id {
			return s
		}
	}
	return nil
}

func (d *devices) all() []*store.Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// closeTime is how long Devices have for their last Checkpoint: less than the pod has left after the hand-over.
const closeTime = 30 * time.Second

// close ends the service of all Devices, each with a last Checkpoint.
func (d *devices) close() error {
	var parts []func() error
	for _, s := range d.all() {
		parts = append(parts, func() error { return errors.Join(d.host.RemoveDevice(s.Device()), s.Close()) })
	}
	return closeAll(closeTime, parts)
}

// closeAll closes all beside each other, and waits no longer than limit: one that hangs takes nobody else's last
// Checkpoint, without which a reboot counts as a loss of power.
func closeAll(limit time.Duration, parts []func() error) error {
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part() }()
	}
	late := time.After(limit)
	var errs []error
	for i := range parts {
		select {
		case err := <-ended:
			errs = append(errs, err)
		case <-late:
			return errors.Join(append(errs, fmt.Errorf("%d devices: %w within %s", len(parts)-i, errNotClosed, limit))...)
		}
	}
	return errors.Join(errs...)
}

// errNotClosed says that a Device hangs. What was on its way there is lost with the process.
var errNotClosed = errors.New("not closed")
