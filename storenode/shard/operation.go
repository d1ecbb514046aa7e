package shard

import (
	"errors"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/replication"
	"github.com/shale-storage/shale/storenode/store"
)

// operation ties an Op of a Machine to an IO of the Store. It stays in Op.Slot, so each is made once.
type operation struct {
	io store.IO
	op *replication.Op
	r  *replica
	// holds is the memory it takes while it is with the Store, in bytes.
	holds int
}

// submit begins an Op on the local Replica.
func (r *replica) submit(op *replication.Op) {
	o, ok := op.Slot.(*operation)
	if !ok {
		o = &operation{}
		op.Slot = o
	}
	r.inFlight++
	r.monitor.inFlight++
	o.op, o.r = op, r
	o.io.Op, o.io.FUA, o.io.Replica = storeOp(op.Kind), op.FUA, r.handle
	o.io.Offset, o.io.Length = op.Offset, op.Length
	o.io.Seq, o.io.Epoch = op.Seq, op.Epoch
	o.io.Buf, o.io.Done, o.io.Next = nil, o, nil
	op.Err = nil
	switch op.Kind {
	case replication.Read:
		if o.io.Buf = r.host.o.Pool.Get(op.Length); o.io.Buf == nil {
			op.Err = replication.ErrBusy
			r.monitor.ended = append(r.monitor.ended, o)
			return
		}
		r.monitor.hold(o, o.io.Buf)
	case replication.Write:
		o.io.Buf = bufferOf(op.Payload)
		r.monitor.hold(o, o.io.Buf)
	case replication.Spoil:
		if o.io.Buf = r.host.o.Pool.Get(op.Length); o.io.Buf == nil {
			op.Err = replication.ErrBusy
			r.monitor.ended = append(r.monitor.ended, o)
			return
		}
		r.monitor.hold(o, o.io.Buf)
		r.monitor.store.Spoil(&o.io, op.Sum, o.spoiled)
		return
	case replication.Discard, replication.WriteZeroes, replication.Flush:
	}
	r.monitor.store.Submit(&o.io)
}

// IODone implements store.Completer.
func (o *operation) IODone(io *store.IO) {
	o.op.Err = outcome(io.Err)
	o.r.monitor.sick.note(io.Err)
	if o.op.Kind == replication.Read {
		if io.Err == nil {
			o.op.Payload = io.Buf
		} else {
			o.op.Payload = nil
			io.Buf.Release()
		}
	}
	io.Buf = nil
	o.stored()
}

// spoiled is the end of a Spoil, which is no IO.
func (o *operation) spoiled(err error) {
	o.op.Err = outcome(err)
	o.io.Buf.Release()
	o.io.Buf = nil
	o.stored()
}

// stored tells the Machine.
func (o *operation) stored() {
	r, op := o.r, o.op
	o.r, o.op = nil, nil
	r.inFlight--
	r.monitor.inFlight--
	r.monitor.letGo(o)
	r.monitor.sick.ended++
	r.machine.Stored(r.host.o.Clock(), op)
	r.touch()
	r.drain()
}

func storeOp(k replication.OpKind) store.Op {
	switch k {
	case replication.Read:
		return store.OpRead
	case replication.Write:
		return store.OpWrite
	case replication.Discard:
		return store.OpDiscard
	case replication.WriteZeroes:
		return store.OpWriteZeroes
	case replication.Flush:
		return store.OpFlush
	case replication.Spoil:
	}
	return 0 // the Store refuses it
}

// outcome maps an error of the Store to those that a Machine tells apart.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoSpace):
		return replication.ErrNoSpace
	case errors.Is(err, store.ErrCorruption):
		return replication.ErrCorruption
	}
	return err
}

// bufferOf is the memory behind a Payload; all Payloads are Buffers of our Pool.
func bufferOf(p replication.Payload) *buffer.Buffer {
	if p == nil {
		return nil
	}
	return p.(*buffer.Buffer)
}

// payloadOf is the opposite, without making nil something else.
func payloadOf(b *buffer.Buffer) replication.Payload {
	if b == nil {
		return nil
	}
	return b
}
