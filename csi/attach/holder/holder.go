package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// acceptPause is the time between tries to take a client.
const acceptPause = 100 * time.Millisecond

// Holder keeps Items. All its state belongs to the goroutine in Serve.
type Holder struct {
	log   *slog.Logger
	items map[string]Item
}

// New makes a Holder of nothing.
func New(log *slog.Logger) *Holder { return &Holder{log: log, items: map[string]Item{}} }

// Listen makes the socket, in place of one that an earlier holder left. One that lives is an error: it may hold what
// would then be out of reach.
func Listen(ctx context.Context, path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of socket: %w", err)
	}
	if c, err := (&net.Dialer{}).DialContext(ctx, network, path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("listen on %s: another holder is running", path)
	} else if !NobodyListens(err) {
		return nil, fmt.Errorf("look for another holder: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("restrict socket: %w", err), l.Close())
	}
	return l, nil
}

// Serve takes one client after the other until ctx or the listener ends, then closes all it keeps. When a client cannot
// be taken, as a rule because descriptors or memory are short, its former one has just died: nobody else has the files.
func (h *Holder) Serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer h.end()
	failures := 0
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			h.serve(ctx, c)
			failures = 0
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default:
			// Told ever more seldom: at failures 1, 2, 4, 8 and so on.
			if failures++; failures&(failures-1) == 0 {
				h.log.Error("Cannot take a client", "failures", failures, "cause", err)
			}
			pause, cancel := context.WithTimeout(ctx, acceptPause)
			<-pause.Done()
			cancel()
		}
	}
}

func (h *Holder) end() {
	for _, i := range h.items {
		i.Close()
	}
	clear(h.items)
}

// serve answers one client until it has gone.
func (h *Holder) serve(ctx context.Context, c *net.UnixConn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer func() { _ = c.Close() }()
	for {
		m, err := receive(c)
		switch {
		case errors.Is(err, errMalformed):
			h.log.Warn("Refused a message", "cause", err)
		case err != nil:
			return
		default:
			err = h.handle(c, m)
		}
		answer := &message{Kind: kindOK}
		if err != nil {
			answer = &message{Kind: kindError, Error: err.Error()}
		}
		if send(c, answer) != nil {
			return
		}
	}
}

// handle carries out m and owns its files.
func (h *Holder) handle(c *net.UnixConn, m *message) error {
	if m.Kind == kindKeep {
		return h.keep(m.item())
	}
	m.close()
	switch m.Kind {
	case kindDrop:
		if old, ok := h.items[m.Name]; ok {
			old.Close()
			delete(h.items, m.Name)
		}
		return nil
	case kindList:
		return h.list(c)
	case kindKeep, kindItem, kindOK, kindError:
	}
	return fmt.Errorf("kind %.20q: %w", m.Kind, errMalformed)
}

func (h *Holder) keep(i Item) error {
	old, replaces := h.items[i.Name]
	if i.Name == "" || len(i.Files) == 0 || !replaces && len(h.items) >= maxItems {
		n := len(i.Files)
		i.Close()
		return fmt.Errorf("keep %q with %d files beside %d others: want a name, files, and less than %d", i.Name, n,
			len(h.items), maxItems)
	}
	h.items[i.Name] = i
	old.Close()
	return nil
}

func (h *Holder) list(c *net.UnixConn) error {
	names := make([]string, 0, len(h.items))
	for name := range h.items {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		i := h.items[name]
		if err := send(c, &message{Kind: kindItem, Name: i.Name, State: i.State, files: i.Files}); err != nil {
			return err
		}
	}
	return nil
}
