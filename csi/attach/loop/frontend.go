package loop

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/fuse"
)

const (
	// Name of the Frontend.
	Name = "loop"
	// clearPoll is how often Detach looks whether the device is free.
	clearPoll = 20 * time.Millisecond
	// identityFile holds the identity of a state directory.
	identityFile = "identity"
	identitySize = 8
)

// Options of New.
type Options struct {
	// StateDir is private to this Frontend; the FUSE file systems are mounted below it. Made if it is missing.
	StateDir string
	// LinkDir takes a link for each device, e.g. /dev/shale; empty for none.
	LinkDir string
	Log     *slog.Logger
}

// Frontend implements attach.Frontend. Calls for one Volume come one at a time.
type Frontend struct {
	options  Options
	identity string

	// mu guards attached, not the things in it: those belong to the call for their Volume.
	mu       sync.Mutex
	attached map[string]*attachment
}

// attachment is one Volume on its way from Attach to the end of Detach.
type attachment struct {
	// export is nil while an adopted device waits for Resume with these files.
	export  *fuse.Export
	files   []int
	adopted bool

	device device
	dir    string
	name   string
	link   string
	// cleared: the loop device is gone, or never was; what is left is to end the export.
	cleared bool
}

// New reads or draws the identity of the state directory.
func New(o Options) (*Frontend, error) {
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	identity, err := loadIdentity(filepath.Join(o.StateDir, identityFile))
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	return &Frontend{options: o, identity: identity, attached: map[string]*attachment{}}, nil
}

// loadIdentity reads the identity, or draws it. It is linked into place whole, so a crash leaves none or all of it.
func loadIdentity(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(raw) != identitySize {
			return "", fmt.Errorf("%s does not hold %d hexadecimal digits", path, 2*identitySize)
		}
		return hex.EncodeToString(raw), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, identitySize)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	identity := hex.EncodeToString(raw)
	if err := os.WriteFile(path+".new", []byte(identity+"\n"), 0o600); err != nil {
		return "", err
	}
	return identity, os.Rename(path+".new", path)
}

// Name is "loop".
func (f *Frontend) Name() string { return Name }

// Probe asks for what every kernel has, unless it was left out.
func (f *Frontend) Probe() error {
	for _, path := range []string{"/dev/fuse", controlPath} {
		if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil {
			return fmt.Errorf("use %s: %w", path, err)
		}
	}
	return nil
}

// prefix begins the name of all loop devices of this state directory.
func (f *Frontend) prefix() string { return "shale:" + f.identity + ":" }

// nameFor is the name of the loop device; a hash because the kernel keeps 63 bytes.
func (f *Frontend) nameFor(volume string) string {
	sum := sha256.Sum256([]byte(volume))
	return f.prefix() + hex.EncodeToString(sum[:8])
}

// Attach mounts the export and binds a loop device to it.
func (f *Frontend) Attach(_ context.Context, spec attach.Spec) (attach.Device, error) {
	if f.get(spec.Volume) != nil {
		return attach.Device{}, fmt.Errorf("attach %s: %w", spec.Volume, attach.ErrBusy)
	}
	a := &attachment{dir: filepath.Join(f.options.StateDir, spec.Volume), name: f.nameFor(spec.Volume), cleared: true}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return attach.Device{}, fmt.Errorf("make mount point: %w", err)
	}
	export, err := fuse.Mount(fuse.Options{
		Dir: a.dir, Source: "shale:" + spec.Volume, Backend: spec.Backend,
		Log: f.options.Log.With("volume", spec.Volume),
	})
	if err != nil {
		return attach.Device{}, err
	}
	a.export = export
	//nolint:contextcheck // what it made must end whatever becomes of the caller
	if err := a.bind(f.options.Log, spec.ReadOnly); err != nil {
		return attach.Device{}, errors.Join(err, export.Close(context.Background()), os.Remove(a.dir))
	}
	f.put(spec.Volume, a)
	if f.options.LinkDir != "" {
		a.link = filepath.Join(f.options.LinkDir, spec.Volume)
		f.makeLink(a)
	}
	return attach.Device{Path: a.device.path(), Link: a.link}, nil
}

// bind makes the loop device. The mount point has done its duty then: the device holds the file, and a name would only
// be in the way of a successor in another mount namespace.
func (a *attachment) bind(log *slog.Logger, readOnly bool) error {
	d, err := bind(log, a.export.Path(), a.name, readOnly)
	if err != nil {
		return err
	}
	if err := a.export.Detach(); err != nil {
		return errors.Join(err, d.clear(a.name, false))
	}
	a.device, a.cleared = d, false
	return nil
}

// makeLink replaces what was at the link. The link is for people; the device works without it.
func (f *Frontend) makeLink(a *attachment) {
	temporary := a.link + ".new"
	_ = os.Remove(temporary)
	err := errors.Join(os.MkdirAll(f.options.LinkDir, 0o755), os.Symlink(a.device.path(), temporary))
	if err == nil {
		err = os.Rename(temporary, a.link)
	}
	if err != nil {
		f.options.Log.Warn("Cannot link device", "link", a.link, "device", a.device.path(), "cause", err)
		a.link = ""
	}
}

// Confirm looks whether the loop device is still bound as the volume. `losetup -D` asks nobody, and the kernel gives a
// number that is free to the next who wants one.
func (f *Frontend) Confirm(volume string) error {
	a := f.get(volume)
	if a == nil {
		return fmt.Errorf("confirm %s: %w", volume, attach.ErrGone)
	}
	return a.confirm()
}

func (a *attachment) confirm() error {
	bound, err := a.device.isBoundAs(a.name)
	if err != nil {
		return fmt.Errorf("look at %s: %w", a.device.path(), err)
	}
	if !bound {
		return fmt.Errorf("%s: %w", a.device.path(), attach.ErrGone)
	}
	return nil
}

// Detach clears the loop device, then ends the export. While the Backend answers nothing, to keep a device that is in
// use takes longer than ctx: as long as the I/O that waits.
func (f *Frontend) Detach(ctx context.Context, volume string) error {
	a := f.get(volume)
	if a == nil {
		return nil
	}
	if a.export == nil {
		return fmt.Errorf("detach %s: %w", volume, errAdopted)
	}
	if !a.cleared {
		if err := a.clear(ctx); err != nil {
			return fmt.Errorf("clear %s: %w", a.device.path(), err)
		}
		a.cleared = true
		a.removeLink()
	}
	if err := a.export.Close(ctx); err != nil {
		return fmt.Errorf("end export: %w", err)
	}
	f.put(volume, nil)
	if err := os.Remove(a.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove mount point: %w", err)
	}
	return nil
}

// clear unbinds the device as soon as nobody claims it and waits until its last opener has gone. With ErrBusy the
// device works on: left to vanish at some later time, its number would become another volume's.
func (a *attachment) clear(ctx context.Context) error {
	asked := false
	err := wait.PollUntilContextCancel(ctx, clearPoll, true, func(context.Context) (bool, error) {
		if !asked {
			err := a.device.clear(a.name, true)
			if errors.Is(err, attach.ErrBusy) {
				// By another volume, perhaps, which has the number now.
				bound, err := a.device.isBoundAs(a.name)
				return err == nil && !bound, err
			}
			if err != nil && !errors.Is(err, errUnbound) {
				return false, err
			}
			asked = true
		}
		bound, err := a.device.isBoundAs(a.name)
		return !bound, err
	})
	if !wait.Interrupted(err) {
		return err
	}
	if asked {
		if err := a.device.keep(a.name); errors.Is(err, errUnbound) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return attach.ErrBusy
}

func (a *attachment) removeLink() {
	if target, err := os.Readlink(a.link); err == nil && target == a.device.path() {
		_ = os.Remove(a.link)
	}
}

func (f *Frontend) get(volume string) *attachment {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attached[volume]
}

// put keeps a as the attachment of volume, or forgets it if a is nil.
func (f *Frontend) put(volume string, a *attachment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a == nil {
		delete(f.attached, volume)
		return
	}
	f.attached[volume] = a
}
