package tcp

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/wire"
)

const (
	// readBuffer is what one read may take, in bytes.
	readBuffer = 256 << 10
	// bulkPayload is a payload that is not worth to be copied, in bytes.
	bulkPayload = 64 << 10
	// poolRetry is how long the reader waits for the Pool before it asks again.
	poolRetry = 200 * time.Microsecond
)

// reader takes frames off a connection.
type reader struct {
	c *conn
	// buf[start:end] has arrived and is not handed on.
	buf        []byte
	start, end int
	frame      transport.Frame
	// bulk: the last payload was large, so the next may be: only its header is read into buf, and the payload to where
	// it belongs.
	bulk bool
	// busy: frames were handed on since the last Idle.
	busy  bool
	first bool
}

// read hands on frames until the connection ends, and says why it did.
func (c *conn) read() error {
	r := &reader{c: c, buf: make([]byte, readBuffer), first: true}
	_ = c.tcp.SetReadDeadline(time.Now().Add(helloTimeout)) //nolint:forbidigo // the socket's clock is the real one
	err := r.run()
	r.idle()
	if errors.Is(err, wire.ErrMalformed) {
		c.options.badFrame(c.remote, err)
	}
	return err
}

func (r *reader) run() error {
	for {
		for r.end-r.start >= wire.HeaderSize {
			if err := r.one(); err != nil {
				return err
			}
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
}

// one hands on the frame whose header is at the start of buf.
func (r *reader) one() error {
	f := &r.frame
	f.Payload = nil
	if err := f.Decode(r.buf[r.start:r.end]); err != nil {
		return err
	}
	r.start += wire.HeaderSize
	r.bulk = f.PayloadLength >= bulkPayload
	if f.PayloadLength > 0 {
		if err := r.payload(int(f.PayloadLength)); err != nil {
			return err
		}
	} else if f.PayloadCRC != 0 {
		return fmt.Errorf("%w: checksum of no payload", wire.ErrMalformed)
	}
	if r.first {
		r.first = false
		_ = r.c.tcp.SetReadDeadline(time.Time{})
	}
	r.busy = true
	r.c.options.Metrics.FramesIn.Add(1)
	return r.c.handler.Frame(r.c, f)
}

// payload brings the next n bytes into a Buffer.
func (r *reader) payload(n int) error {
	b, err := r.memory(n)
	if err != nil {
		return err
	}
	have := copy(b.Bytes(), r.buf[r.start:r.end])
	r.start += have
	if have < n {
		r.idle()
		if _, err := io.ReadFull(r.c.tcp, b.Bytes()[have:]); err != nil {
			b.Release()
			return fmt.Errorf("receive from %s: %w", r.c.remote, err)
		}
		r.c.options.Metrics.BytesIn.Add(int64(n - have))
	}
	if sum(b) != r.frame.PayloadCRC {
		b.Release()
		return fmt.Errorf("%w: payload checksum differs", wire.ErrMalformed)
	}
	r.frame.Payload = b
	return nil
}

// sum is the checksum of what was received. Whole Blocks are summed one by one, for the Store and the next hop.
func sum(b *buffer.Buffer) uint32 {
	if b.Len()%ident.BlockSize != 0 {
		return wire.CRC(b.Bytes())
	}
	checksum.Blocks(b.Bytes(), b.SumsRoom())
	b.SetSums()
	return checksum.Payload(b.Sums())
}

// memory waits for the Pool; the peer waits with it.
func (r *reader) memory(n int) (*buffer.Buffer, error) {
	for {
		if b := r.c.options.Pool.Get(n); b != nil {
			return b, nil
		}
		r.idle()
		select {
		case <-r.c.ended:
			return nil, transport.ErrClosed
		case <-time.After(poolRetry): //nolint:forbidigo // nobody's decision depends on it
		}
	}
}

// fill reads what has arrived, at least one byte.
func (r *reader) fill() error {
	r.idle()
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	room := r.buf[r.end:]
	if r.bulk {
		room = room[:wire.HeaderSize-r.end]
	}
	n, err := r.c.tcp.Read(room)
	r.end += n
	r.c.options.Metrics.BytesIn.Add(int64(n))
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) && r.end > 0 {
		return fmt.Errorf("%w: connection ended within a frame", wire.ErrMalformed)
	}
	return fmt.Errorf("receive from %s: %w", r.c.remote, err)
}

func (r *reader) idle() {
	if r.busy {
		r.busy = false
		r.c.handler.Idle(r.c)
	}
}
