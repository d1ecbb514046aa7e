package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/layout"
)

// direct is a Device before it is in service: each call waits. It implements io.ReaderAt. It is used by one goroutine,
// and closed by who made it.
type direct struct {
	device engine.Device
	o      Options
	// memory is aligned, and what data goes through; nil before the first call.
	memory []byte
}

const (
	// bounce is the size of the memory that data goes through, and so of the most that goes at a time, in bytes.
	bounce = 1 << 20
	// share is the size of one request, in bytes: those of a call are in flight together, so that an SSD has enough to do.
	share = bounce / 4
)

// close gives the memory back. The Device stays open.
func (d *direct) close() {
	d.o.memory().Unmap(d.memory)
	d.memory = nil
}

type waiter chan struct{}

func (w waiter) Complete(*engine.Request) { w <- struct{}{} }

// do carries out requests beside each other.
func (d *direct) do(all ...engine.Request) error {
	done := make(waiter, len(all))
	d.o.Owner.Enter()
	for i := range all {
		all[i].Done = done
		d.device.Submit(&all[i])
	}
	d.device.Kick()
	d.o.Owner.Leave()
	if d.o.Settle != nil {
		d.o.Settle()
	}
	for range all {
		<-done
	}
	for i := range all {
		if all[i].Err != nil {
			return all[i].Err
		}
	}
	return nil
}

// transfer reads or writes what fits into the memory.
func (d *direct) transfer(op engine.Op, memory []byte, offset int64) error {
	var all []engine.Request
	for part := range slices.Chunk(memory, share) {
		all = append(all, engine.Request{Op: op, Offset: offset, Buf: part})
		offset += int64(len(part))
	}
	return d.do(all...)
}

// ReadAt reads whole Units.
func (d *direct) ReadAt(b []byte, offset int64) (int, error) {
	err := d.each(b, offset, func(memory, part []byte, at int64) error {
		err := d.transfer(engine.OpRead, memory, at)
		copy(part, memory)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read %d bytes at %d: %w", len(b), offset, err)
	}
	return len(b), nil
}

func (d *direct) write(b []byte, offset int64) error {
	err := d.each(b, offset, func(memory, part []byte, at int64) error {
		copy(memory, part)
		return d.transfer(engine.OpWrite, memory, at)
	})
	if err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", len(b), offset, err)
	}
	return nil
}

// clear writes zeros. The Journal is written once from end to end when a Device is formatted: where the Device is a
// file its room is there then, so that no record waits for the filesystem to find some.
func (d *direct) clear(offset, length int64) error {
	zeros := make([]byte, min(length, bounce))
	for end := offset + length; offset < end; offset += int64(len(zeros)) {
		if err := d.write(zeros[:min(int64(len(zeros)), end-offset)], offset); err != nil {
			return err
		}
	}
	return nil
}

func (d *direct) flush() error { return d.do(engine.Request{Op: engine.OpFlush}) }

// each goes through b in aligned memory.
func (d *direct) each(b []byte, offset int64, f func(memory, part []byte, at int64) error) error {
	if len(b)%layout.Unit != 0 || offset%layout.Unit != 0 {
		return errors.New("not a multiple of the unit")
	}
	if d.memory == nil {
		memory, err := d.o.memory().Map(bounce)
		if err != nil {
			return err
		}
		d.memory = memory
	}
	for part := range slices.Chunk(b, bounce) {
		if err := f(d.memory[:len(part)], part, offset); err != nil {
			return err
		}
		offset += int64(len(part))
	}
	return nil
}
