package client

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport/tcp"
)

// MinMemory is the least ProcessOptions.Memory: the frontend's half holds a few of the largest Requests.
const MinMemory = 16 << 20

// ProcessOptions of NewProcess. All are required.
type ProcessOptions struct {
	// Node is the name that storenodes log.
	Node string
	// Memory bounds the payloads of each Volume, in bytes.
	Memory int
	// AfterFunc is the clock, as in Options.
	AfterFunc func(d time.Duration, f func()) Timer
	Log       *slog.Logger
}

// Process is what the Volumes of one process share: metrics, and memory of those that were closed. Each Volume has a
// Pool of its own, so that one whose storenodes are away does not hold up the others.
type Process struct {
	o       ProcessOptions
	metrics Metrics
	network tcp.Metrics

	// mu guards idle: Pools that are not in use. Their mappings cannot be given back, so they are used again.
	mu   sync.Mutex
	idle []*buffer.Pool
}

// NewProcess makes a Process without Volumes.
func NewProcess(o ProcessOptions) (*Process, error) {
	if o.Node == "" || o.AfterFunc == nil || o.Log == nil {
		return nil, fmt.Errorf("make client of node %q: node, clock and log are required", o.Node)
	}
	if o.Memory < MinMemory {
		return nil, fmt.Errorf("make client: memory of a volume is %d bytes, at least %d", o.Memory, MinMemory)
	}
	return &Process{o: o}, nil
}

// Metrics of all Volumes.
func (p *Process) Metrics() *Metrics { return &p.metrics }

// Open opens a Volume over TCP. volume is the text form of its UUID.
func (p *Process) Open(ctx context.Context, volume string, generation uint64, addresses []string) (*Volume, error) {
	id, err := ident.ParseUUID(volume)
	if err != nil {
		return nil, fmt.Errorf("open volume: %w: %w", ErrInvalid, err)
	}
	pool := p.pool()
	network := &tcp.Options{Pool: pool, Metrics: &p.network, Log: p.o.Log, MaxConnections: 1}
	v, err := Open(ctx, Options{
		Volume: id, Generation: ident.Generation(generation), Addresses: addresses, Node: p.o.Node,
		Dialer: tcp.Dialer{Options: network}, Pool: pool, AfterFunc: p.o.AfterFunc, Metrics: &p.metrics, Log: p.o.Log,
		Closed: func() { p.giveBack(pool) },
	})
	if err != nil {
		p.giveBack(pool)
		return nil, err
	}
	return v, nil
}

func (p *Process) pool() *buffer.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return buffer.New(p.o.Memory)
	}
	pool := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return pool
}

// giveBack takes the Pool of a closed Volume.
func (p *Process) giveBack(pool *buffer.Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, pool)
}
