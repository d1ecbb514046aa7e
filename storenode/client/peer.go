package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

var (
	errNoHello  = errors.New("storenode does not say hello")
	errNoMemory = errors.New("no memory for hello")
	errRole     = errors.New("frame does not fit a storenode's answer")
	errUnused   = errors.New("no shard needs the connection any more")
)

// peer is one storenode, by its address. Under Volume.mu.
type peer struct {
	volume  *Volume
	address string
	// link is the connection, or the try to make one; nil between tries.
	link *link
	// failures in a row of making one that lasts; dial is the tick before which no other try is made.
	failures, dial int64
	// cause of the last failure.
	cause error
	// heard is the tick of the last frame from there, asked that of the last question for the map to there.
	heard, asked int64
	// primaries counts the Shards whose Primary is there.
	primaries int
}

// peerAt is the storenode at address.
func (v *Volume) peerAt(address string) *peer {
	if p := v.peers[address]; p != nil {
		return p
	}
	if len(v.peers) >= maxPeers {
		v.forgetPeers()
	}
	p := &peer{volume: v, address: address}
	v.peers[address] = p
	return p
}

// forgetPeers drops the storenodes that are no Shard's Primary and have no connection that is being made.
func (v *Volume) forgetPeers() {
	for address, p := range v.peers {
		switch {
		case p.primaries > 0:
		case p.link == nil:
			delete(v.peers, address)
		case p.link.conn != nil:
			p.link.conn.Close(errUnused) // it is forgotten the next time
		}
	}
}

func (p *peer) ready() bool { return p.link != nil && p.link.greeted }

// want sees to it that a connection is made, at once or when the pause after a failure is over.
func (p *peer) want() {
	v := p.volume
	if p.link != nil || v.now < p.dial || v.ended != nil {
		return
	}
	l := &link{volume: v, peer: p, since: v.now}
	p.link = l
	v.workers.Add(1) // until the dial has failed or the connection is closed
	v.workers.Go(func() {
		ctx, cancel := context.WithTimeout(v.ctx, dialTimeout)
		defer cancel()
		c, err := v.o.Dialer.Dial(ctx, p.address, l)
		l.dialed(c, err)
	})
}

// failed notes a failure to connect.
func (p *peer) failed(cause error) {
	p.link = nil
	p.failures++
	p.cause = cause
	p.dial = p.volume.now + min(int64(1)<<min(p.failures, 10), dialTicks)
}

// link is one connection. It implements transport.Handler.
type link struct {
	volume *Volume
	peer   *peer
	// conn is nil while it is dialed.
	conn transport.Conn
	// since is the tick of the dial. greeted: hello was answered, so it may be used. touched: in Volume.touched. over: it
	// has been closed.
	since                  int64
	greeted, touched, over bool
}

// dialed is the end of the dial.
func (l *link) dialed(c transport.Conn, err error) {
	v := l.volume
	v.mu.Lock()
	switch {
	case err != nil:
		l.peer.failed(err)
		v.workers.Done()
	case l.over: // closed before we heard of it
	case v.ended == ErrClosed: //nolint:errorlint // our own value, unwrapped
		l.conn = c
		defer c.Close(ErrClosed)
	default:
		l.conn = c
		if err := l.hello(); err != nil {
			defer c.Close(err)
		}
	}
	v.mu.Unlock()
	v.leave()
}

// hello queues the first frame.
func (l *link) hello() error {
	v := l.volume
	h := wire.Hello{Role: wire.RoleClient, Name: v.o.Node, Incarnation: uint64(v.session)}
	encoded := h.Append(nil)
	b := v.o.Pool.Get(len(encoded))
	if b == nil {
		return errNoMemory
	}
	copy(b.Bytes(), encoded)
	v.touch(l)
	return l.conn.Send(&transport.Frame{Header: wire.Header{Opcode: wire.OpHello, Session: v.session}, Payload: b})
}

// Frame implements transport.Handler.
func (l *link) Frame(_ transport.Conn, f *transport.Frame) error {
	v := l.volume
	v.mu.Lock()
	defer v.mu.Unlock()
	err := l.take(f)
	if f.Payload != nil {
		f.Payload.Release()
		f.Payload = nil
	}
	return err
}

// take does what a frame says; what it keeps of the payload it takes out of f.
func (l *link) take(f *transport.Frame) error {
	v := l.volume
	l.peer.heard = v.now
	switch {
	case l.conn == nil || !f.IsReply() || l.greeted == (f.Opcode == wire.OpHello): // nothing was asked, or not this
		return fmt.Errorf("operation %d: %w", f.Opcode, errRole)
	case f.Opcode == wire.OpHello:
		return l.greet(f)
	case f.Session != v.session || f.Shard.Volume != v.o.Volume || uint64(f.Shard.Index) >= uint64(len(v.shards)):
		return fmt.Errorf("answer to somebody else: %w", errRole)
	case f.Opcode == wire.OpOpen:
		return v.told(l, f)
	}
	return v.answered(l, f)
}

// greet makes the connection usable.
func (l *link) greet(f *transport.Frame) error {
	if f.Payload == nil {
		return errNoHello
	}
	var h wire.Hello
	if err := h.Decode(f.Payload.Bytes()); err != nil {
		return err
	}
	if h.Role != wire.RoleStoreNode {
		return errRole
	}
	v, p := l.volume, l.peer
	l.greeted = true
	p.cause = nil
	v.o.Metrics.Connections.Add(1)
	for _, s := range v.active {
		if s.primary == p {
			s.resume()
		}
	}
	return nil
}

// Idle implements transport.Handler.
func (l *link) Idle(transport.Conn) { l.volume.leave() }

// Closed implements transport.Handler. What was sent and not answered is sent again, as soon as there is a way.
func (l *link) Closed(_ transport.Conn, cause error) {
	v, p := l.volume, l.peer
	v.mu.Lock()
	l.over = true
	took := 0
	for _, s := range v.active {
		took += s.lost(l)
	}
	greeted := l.greeted
	if greeted {
		l.greeted = false
		v.o.Metrics.Connections.Add(-1)
	}
	if !greeted || took > 0 && v.now-l.since < shortTicks {
		p.failed(cause)
	} else {
		p.link, p.failures, p.dial, p.cause = nil, 0, 0, cause // and dialed at once
	}
	for _, s := range v.active {
		if s.primary == p && s.outstanding > 0 {
			p.want()
		}
	}
	if v.question.link == l {
		v.question.link = nil
	}
	v.mu.Unlock()
	v.leave()
	v.workers.Done()
}
