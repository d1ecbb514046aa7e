package loop

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/fuse"
)

// record is the State of a Held device. Fields may be added; a successor, which may be an older program after a
// downgrade, does without those it does not know.
type record struct {
	Device int    `json:"device"`
	Link   string `json:"link,omitempty"`
}

var (
	// errAdopted says that a device waits for Resume.
	errAdopted = errors.New("device is adopted and waits for its volume")
	errUnknown = errors.New("no such device")
)

// Held tells the descriptors of the export and the number of the loop device.
func (f *Frontend) Held(volume string) (attach.Held, bool) {
	a := f.get(volume)
	if a == nil || a.export == nil {
		return attach.Held{}, false
	}
	files, ok := a.export.Files()
	state, err := json.Marshal(record{Device: int(a.device), Link: a.link})
	if !ok || err != nil {
		return attach.Held{}, false
	}
	return attach.Held{State: state, Files: files}, true
}

// Adopt takes the loop device over. Whether it is still the volume's is for Confirm to say: to ask means to open it,
// and that may wait for I/O which waits for Resume.
func (f *Frontend) Adopt(volume string, h attach.Held) (attach.Device, error) {
	if f.get(volume) != nil {
		return attach.Device{}, fmt.Errorf("adopt %s: %w", volume, attach.ErrBusy)
	}
	var r record
	if err := json.Unmarshal(h.State, &r); err != nil {
		return attach.Device{}, fmt.Errorf("%w: %w", attach.ErrUnreadable, err)
	}
	a := &attachment{
		dir: filepath.Join(f.options.StateDir, volume), name: f.nameFor(volume), device: device(r.Device), link: r.Link,
		files: h.Files, adopted: true,
	}
	f.put(volume, a)
	return attach.Device{Path: a.device.path(), Link: a.link}, nil
}

// Resume starts to read from the adopted descriptors.
func (f *Frontend) Resume(spec attach.Spec) error {
	a := f.get(spec.Volume)
	if a == nil || a.export != nil {
		return fmt.Errorf("resume %s: %w", spec.Volume, errUnknown)
	}
	export, err := fuse.Resume(fuse.Options{
		Dir: a.dir, Backend: spec.Backend, Log: f.options.Log.With("volume", spec.Volume),
	}, a.files)
	if err != nil {
		return err
	}
	a.export, a.files = export, nil
	return nil
}

// Abandon closes the descriptors, which ends the file system if nobody else holds them, and clears the device.
func (f *Frontend) Abandon(volume string) error {
	a := f.get(volume)
	if a == nil || a.export != nil {
		return fmt.Errorf("abandon %s: %w", volume, errUnknown)
	}
	f.put(volume, nil)
	for _, fd := range a.files {
		_ = unix.Close(fd)
	}
	a.removeLink()
	if err := a.device.clear(a.name, false); err != nil && !errors.Is(err, errUnbound) {
		return fmt.Errorf("abandon %s: %w", volume, err)
	}
	return nil
}

// isAdopted tells a device that CleanUp leaves alone.
func (f *Frontend) isAdopted(d device) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.attached {
		if a.device == d && a.adopted {
			return true
		}
	}
	return false
}
