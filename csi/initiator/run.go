package initiator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/shale-storage/shale/csi/attach/holder"
	"github.com/shale-storage/shale/csi/initiator/api"
)

const (
	// spareConnections are those of the socket that remain when a call for each volume waits, for its storenodes or for
	// its openers: a further call for one is answered at once.
	spareConnections = 32
	// headerTimeout bounds how long a caller may take to say what it wants. The server's ReadTimeout is not used: it would
	// also end calls that take longer, through their context.
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	// maxHeader bounds the header of a request, in bytes.
	maxHeader = 16 << 10
	// shutdownTimeout bounds the orderly end: calls that are running, then the devices that are not in use.
	shutdownTimeout = 15 * time.Second
)

// Run makes an Initiator and runs it.
func Run(ctx context.Context, o Options) error {
	i, err := New(o)
	if err != nil {
		return err
	}
	return i.Run(ctx)
}

// Run takes over from an earlier process, cleans up after it, and serves the API on Options.Socket until ctx ends.
func (i *Initiator) Run(ctx context.Context) error {
	o := i.options
	listener, err := listen(ctx, o.Socket)
	if err != nil {
		return err
	}
	adopted, err := i.takeOver(ctx)
	if err == nil {
		// What was not taken over because there was no time must not be cleaned up.
		err = ctx.Err()
	}
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	var helpers sync.WaitGroup
	defer helpers.Wait()
	helping, stop := context.WithCancel(ctx)
	defer stop()
	helpers.Go(func() { i.holding.run(helping) })
	helpers.Go(func() { wait.UntilWithContext(helping, i.learnAll, learnEvery) })
	for _, e := range adopted {
		helpers.Go(func() { i.resume(helping, e) })
	}
	// After the resumes have begun, for which the kernel may keep it waiting; before the first Attach, whose device it
	// would take for one that was left.
	i.CleanUp(ctx)
	httpd := &http.Server{
		Handler: api.NewHandler(i), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- httpd.Serve(netutil.LimitListener(listener, o.MaxVolumes+spareConnections)) }()
	i.setServing(true)
	defer i.setServing(false)
	o.Log.Info("Initiator is up", "socket", o.Socket, "frontends", i.Health().Frontends)
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", o.Socket, err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := httpd.Shutdown(last); err != nil {
		o.Log.Warn("Calls are still running", "cause", err)
	}
	i.detachAll(last)
	return nil
}

// listen makes the socket, in place of one that an earlier process left. A live process there is an error: two
// initiators with one state directory would clear each other's devices.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of socket: %w", err)
	}
	var dialer net.Dialer
	if c, err := dialer.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("listen on %s: another initiator is running", path)
	} else if !holder.NobodyListens(err) {
		return nil, fmt.Errorf("look for another initiator: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("restrict socket: %w", err), listener.Close())
	}
	return listener, nil
}

// detachAll ends what is not in use and not held. What is in use ends with the process, what is held goes on with its
// successor.
func (i *Initiator) detachAll(ctx context.Context) {
	for _, s := range i.shown() {
		a := s.attachment
		if i.holding.holds(a.Volume) {
			i.options.Log.Info("Leaving device to the holder", "volume", a.Volume, "device", a.DevicePath)
			continue
		}
		if err := i.Detach(ctx, a.Volume); err != nil {
			i.options.Log.Warn("Leaving device behind", "volume", a.Volume, "device", a.DevicePath, "cause", err)
		}
	}
}
