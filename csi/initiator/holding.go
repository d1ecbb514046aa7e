package initiator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/shale-storage/shale/csi/attach/holder"
)

const (
	// holderTimeout bounds a call of the holder, which does nothing that takes time.
	holderTimeout = 5 * time.Second
	// holderPause is the time between tries to connect to a holder that is away.
	holderPause = time.Second
)

// errNotHeld says that nobody would keep the device if this process died now.
var errNotHeld = errors.New("no holder is connected")

// holding is the connection to the holder, and what it is to keep: a holder that was away is handed all of it.
type holding struct {
	// socket of the holder; empty if there is none.
	socket string
	log    *slog.Logger

	// mu guards the rest, and is held across calls of the holder, so that they reach it in the order of items' changes.
	mu     sync.Mutex
	client *holder.Client
	// items have descriptors of their own: those of a device are closed before its item is dropped.
	items map[string]holder.Item
	// owed are the names that the holder has not confirmed to have dropped, and may still keep.
	owed map[string]bool

	confirmed confirmed
}

// confirmed are the names that the holder at the other end has said it keeps. It is changed under holding.mu, and has a
// mutex of its own, so that who only asks does not wait for a call of the holder.
type confirmed struct {
	mu    sync.Mutex
	names map[string]bool
}

func (c *confirmed) set(name string, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if is {
		c.names[name] = true
	} else {
		delete(c.names, name)
	}
}

func (c *confirmed) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.names)
}

func (c *confirmed) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names[name]
}

func (c *confirmed) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.names)
}

func newHolding(socket string, log *slog.Logger) *holding {
	return &holding{
		socket: socket, log: log, items: map[string]holder.Item{}, owed: map[string]bool{},
		confirmed: confirmed{names: map[string]bool{}},
	}
}

// take connects for the first time and lists what a former process left. No holder is no error: then nothing was kept.
func (h *holding) take(ctx context.Context) ([]holder.Item, error) {
	if h.socket == "" {
		return nil, nil
	}
	c, err := holder.Dial(ctx, h.socket)
	if errors.Is(err, holder.ErrAway) {
		h.log.Warn("No holder: devices end with this process", "socket", h.socket, "cause", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The former process may be on its way out; as long as it is not gone it may answer the kernel.
	items, err := c.List(ctx)
	if err != nil {
		c.Close()
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.client = c
	return items, nil
}

// run keeps the connection until ctx ends.
func (h *holding) run(ctx context.Context) {
	if h.socket == "" {
		return
	}
	for ctx.Err() == nil {
		h.mu.Lock()
		c := h.client
		h.mu.Unlock()
		if c == nil {
			_ = wait.PollUntilContextCancel(ctx, holderPause, false, func(ctx context.Context) (bool, error) {
				return h.connect(ctx) == nil, nil
			})
			continue
		}
		select {
		case <-c.Closed():
			h.log.Warn("The holder has gone: devices end with this process until it is back")
			h.lose(c)
		case <-ctx.Done():
		}
	}
}

// lose forgets a connection that has ended.
func (h *holding) lose(c *holder.Client) {
	c.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client == c {
		h.client = nil
		h.confirmed.clear()
	}
}

// connect hands all items to a holder that is back, and has it drop what it keeps of others.
func (h *holding) connect(ctx context.Context) error {
	c, err := holder.Dial(ctx, h.socket)
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(err, holder.ErrAway) {
		// With it ended all that it kept.
		clear(h.owed)
	}
	if err != nil {
		return err
	}
	h.client = c
	if err := h.tellAllLocked(ctx); err != nil {
		h.client = nil
		h.confirmed.clear()
		c.Close()
		return err
	}
	h.log.Info("The holder keeps the devices", "volumes", len(h.items))
	return nil
}

func (h *holding) tellAllLocked(ctx context.Context) error {
	for name := range h.owed {
		if err := h.dropLocked(ctx, name); err != nil {
			return err
		}
	}
	for name := range h.items {
		if err := h.tellLocked(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// keep has the holder keep i, now or as soon as it is there. errNotHeld tells the latter.
func (h *holding) keep(ctx context.Context, i holder.Item) error {
	if h.socket == "" {
		return errNotHeld
	}
	own, err := duplicate(i)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.items[i.Name]
	old.Close()
	h.items[i.Name] = own
	// Whatever the holder has of that name is replaced.
	delete(h.owed, i.Name)
	h.confirmed.set(i.Name, false)
	return h.tellLocked(ctx, i.Name)
}

func (h *holding) tellLocked(ctx context.Context, name string) error {
	if h.client == nil {
		return errNotHeld
	}
	ctx, cancel := context.WithTimeout(ctx, holderTimeout)
	defer cancel()
	if err := h.client.Keep(ctx, h.items[name]); err != nil {
		return err
	}
	h.confirmed.set(name, true)
	return nil
}

// drop ends what keep began, now or as soon as the holder can be told.
func (h *holding) drop(ctx context.Context, name string) error {
	if h.socket == "" {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.items[name]
	old.Close()
	delete(h.items, name)
	h.owed[name] = true
	h.confirmed.set(name, false)
	return h.dropLocked(ctx, name)
}

func (h *holding) dropLocked(ctx context.Context, name string) error {
	if h.client == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, holderTimeout)
	defer cancel()
	if err := h.client.Drop(ctx, name); err != nil {
		return err
	}
	delete(h.owed, name)
	return nil
}

// holds reports whether a successor will find name.
func (h *holding) holds(name string) bool { return h.confirmed.has(name) }

// held is how many devices outlive this process.
func (h *holding) held() int { return h.confirmed.count() }

// duplicate is i with descriptors of its own.
func duplicate(i holder.Item) (holder.Item, error) {
	own := holder.Item{Name: i.Name, State: i.State}
	for _, fd := range i.Files {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			own.Close()
			return holder.Item{}, fmt.Errorf("duplicate descriptor of %s: %w", i.Name, err)
		}
		own.Files = append(own.Files, d)
	}
	return own, nil
}
