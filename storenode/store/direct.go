package store

import (
	"errors"
	"fmt"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/layout"
)

// direct is a Device before it is in service: each call waits. It implements io.ReaderAt.
type direct struct {
	device engine.Device
	o      Options
}

// bounce is the size of the aligned memory that data goes through, in bytes.
const bounce = 1 << 20

type waiter chan struct{}

func (w waiter) Complete(*engine.Request) { w <- struct{}{} }

func (d direct) do(r *engine.Request) error {
	done := make(waiter, 1)
	r.Done = done
	d.o.Owner.Enter()
	d.device.Submit(r)
	d.device.Kick()
	d.o.Owner.Leave()
	if d.o.Settle != nil {
		d.o.Settle()
	}
	<-done
	return r.Err
}

// ReadAt reads whole Units.
func (d direct) ReadAt(b []byte, offset int64) (int, error) {
	err := d.each(b, offset, func(memory, part []byte, at int64) error {
		err := d.do(&engine.Request{Op: engine.OpRead, Offset: at, Buf: memory})
		copy(part, memory)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read %d bytes at %d: %w", len(b), offset, err)
	}
	return len(b), nil
}

func (d direct) write(b []byte, offset int64) error {
	err := d.each(b, offset, func(memory, part []byte, at int64) error {
		copy(memory, part)
		return d.do(&engine.Request{Op: engine.OpWrite, Offset: at, Buf: memory})
	})
	if err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", len(b), offset, err)
	}
	return nil
}

// clear writes zeros. The Journal is written once from end to end when a Device is formatted: where the Device is a
// file its room is there then, so that no record waits for the filesystem to find some.
func (d direct) clear(offset, length int64) error {
	zeros := make([]byte, min(length, bounce))
	for end := offset + length; offset < end; offset += int64(len(zeros)) {
		if err := d.write(zeros[:min(int64(len(zeros)), end-offset)], offset); err != nil {
			return err
		}
	}
	return nil
}

func (d direct) flush() error { return d.do(&engine.Request{Op: engine.OpFlush}) }

// each goes through b in aligned memory.
func (d direct) each(b []byte, offset int64, f func(memory, part []byte, at int64) error) error {
	if len(b)%layout.Unit != 0 || offset%layout.Unit != 0 {
		return errors.New("not a multiple of the unit")
	}
	memory, err := d.o.memory().Map(min(bounce, max(len(b), layout.Unit)))
	if err != nil {
		return err
	}
	defer d.o.memory().Unmap(memory)
	for len(b) > 0 {
		n := min(len(b), bounce)
		if err := f(memory[:n], b[:n], offset); err != nil {
			return err
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}
