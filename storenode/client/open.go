package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

// Open asks the addresses in turn for the map, once each, until one tells it.
func Open(ctx context.Context, o Options) (*Volume, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.Addresses = slices.Clone(o.Addresses)
	session, err := newSession()
	if err != nil {
		return nil, err
	}
	var failed []error
	unknown := 0
	for _, address := range o.Addresses {
		m, err := fetch(ctx, &o, session, address)
		if err == nil {
			return newVolume(o, session, m), nil
		}
		if errors.Is(err, ErrFenced) {
			return nil, fmt.Errorf("open volume %s at %s: %w", o.Volume, address, err)
		}
		if errors.Is(err, ErrUnknownVolume) {
			unknown++
		}
		failed = append(failed, fmt.Errorf("%s: %w", address, err))
	}
	if unknown == len(o.Addresses) {
		return nil, fmt.Errorf("open volume %s: %w", o.Volume, ErrUnknownVolume)
	}
	return nil, fmt.Errorf("open volume %s: %w: %w", o.Volume, ErrUnreachable, errors.Join(failed...))
}

func newSession() (ident.SessionID, error) {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("draw session: %w", err)
		}
		if id := binary.LittleEndian.Uint64(b[:]); id != 0 {
			return ident.SessionID(id), nil
		}
	}
}

// volumeMap is all pages of a map.
type volumeMap struct {
	size, shardSize int64
	records         []membership.Record
}

// newVolume makes a Volume of its map; it connects when it has something to do.
func newVolume(o Options, session ident.SessionID, m *volumeMap) *Volume {
	v := &Volume{
		o: o, size: m.size, shardSize: m.shardSize, session: session, shards: make([]shard, len(m.records)),
		peers: map[string]*peer{}, now: 1,
	}
	_, limit := o.Pool.Use()
	v.copyLimit = limit / 4
	v.ctx, v.stop = context.WithCancel(context.Background())
	v.unflushed = make([]*shard, len(m.records))
	for i := range v.shards {
		s := &v.shards[i]
		s.volume, s.index, s.record = v, uint32(i), m.records[i]
		s.lowest, s.next = 1, 1
		// Whatever an earlier session has left unflushed is covered by our first flush.
		s.written, s.unflushed = 1, true
		v.unflushed[i] = s
		s.resolve()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.timer, v.armed = o.AfterFunc(tick, v.tick), true
	return v
}

// fetcher takes the answers of one connection that only asks for the map. It implements transport.Handler.
type fetcher struct {
	// answers holds at most the one that is waited for.
	answers chan transport.Frame
	closed  chan struct{}
	cause   error
}

// Frame implements transport.Handler.
func (f *fetcher) Frame(_ transport.Conn, a *transport.Frame) error {
	select {
	case f.answers <- *a:
		return nil
	default:
	}
	if a.Payload != nil {
		a.Payload.Release()
	}
	return errRole
}

// Idle implements transport.Handler.
func (f *fetcher) Idle(transport.Conn) {}

// Closed implements transport.Handler.
func (f *fetcher) Closed(_ transport.Conn, cause error) {
	f.cause = cause
	close(f.closed)
}

// fetch asks one address for all pages.
func fetch(ctx context.Context, o *Options, session ident.SessionID, address string) (*volumeMap, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	f := &fetcher{answers: make(chan transport.Frame, 1), closed: make(chan struct{})}
	dialing, dialed := context.WithTimeout(ctx, dialTimeout)
	defer dialed()
	c, err := o.Dialer.Dial(dialing, address, f)
	if err != nil {
		return nil, err
	}
	defer func() {
		c.Close(ErrClosed)
		<-f.closed
		select {
		case a := <-f.answers:
			if a.Payload != nil {
				a.Payload.Release()
			}
		default:
		}
	}()
	hello := wire.Hello{Role: wire.RoleClient, Name: o.Node, Incarnation: uint64(session)}
	encoded := hello.Append(nil)
	b := o.Pool.Get(len(encoded))
	if b == nil {
		return nil, errNoMemory
	}
	copy(b.Bytes(), encoded)
	greeting := transport.Frame{Header: wire.Header{Opcode: wire.OpHello, Session: session}, Payload: b}
	err = f.call(ctx, c, &greeting, func(a *transport.Frame) error {
		if a.Opcode != wire.OpHello || a.Payload == nil {
			return errNoHello
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f.pages(ctx, c, o, session)
}

// pages asks for one page after the other.
func (f *fetcher) pages(
	ctx context.Context, c transport.Conn, o *Options, session ident.SessionID,
) (*volumeMap, error) {
	m := &volumeMap{}
	for total := 1; len(m.records) < total; {
		request := transport.Frame{Header: wire.Header{
			Opcode: wire.OpOpen, Request: ident.RequestID(len(m.records) + 1), Session: session, Generation: o.Generation,
			Shard: ident.ShardID{Volume: o.Volume, Index: uint32(len(m.records))},
		}}
		err := f.call(ctx, c, &request, func(a *transport.Frame) error {
			page, err := decodePage(a, o.Volume)
			if err != nil {
				return err
			}
			if len(m.records) == 0 {
				m.size, m.shardSize, total = page.Size, page.ShardSize, int(page.Shards)
			}
			return m.add(page)
		})
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// call sends a request and hands on its answer.
func (f *fetcher) call(
	ctx context.Context, c transport.Conn, r *transport.Frame, take func(*transport.Frame) error,
) error {
	if err := c.Send(r); err != nil {
		return fmt.Errorf("send operation %d: %w", r.Opcode, err)
	}
	c.Flush()
	select {
	case a := <-f.answers:
		if a.Payload != nil {
			defer a.Payload.Release()
		}
		if !a.IsReply() {
			return errRole
		}
		return take(&a)
	case <-f.closed:
		return fmt.Errorf("connection ended: %w", f.cause)
	case <-ctx.Done():
		return fmt.Errorf("wait for answer: %w", ctx.Err())
	}
}

func decodePage(a *transport.Frame, volume ident.UUID) (*wire.MapPage, error) {
	switch {
	case a.Opcode != wire.OpOpen:
		return nil, errRole
	case a.Status == wire.StatusNotFound:
		return nil, ErrUnknownVolume
	case a.Status == wire.StatusFenced:
		return nil, ErrFenced
	case a.Status != wire.StatusOK || a.Payload == nil:
		return nil, fmt.Errorf("map refused with status %d", a.Status)
	}
	page := &wire.MapPage{}
	if err := page.Decode(a.Payload.Bytes()); err != nil {
		return nil, err
	}
	if page.Volume != volume {
		return nil, fmt.Errorf("map is of volume %s: %w", page.Volume, errRole)
	}
	return page, nil
}

// add takes the next page, which must fit those before.
func (m *volumeMap) add(page *wire.MapPage) error {
	shards := (m.size + m.shardSize - 1) / m.shardSize
	if page.Size != m.size || page.ShardSize != m.shardSize || int64(page.Shards) != shards ||
		int(page.First) != len(m.records) || len(page.Records) == 0 {
		return fmt.Errorf("page from %d of %d shards with %d records does not fit: %w", page.First, page.Shards,
			len(page.Records), errRole)
	}
	m.records = append(m.records, page.Records...)
	return nil
}
