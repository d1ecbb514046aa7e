package replication

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/shale-storage/shale/storenode/bitmap"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/wire"
)

// script drives one Machine by hand and prints what it has Ready. One file in testdata for a rule of
// docs/replication.md.
type script struct {
	t        *testing.T
	m        *Machine
	now      Instant
	leases   map[ident.ReplicaID]Instant
	promised Instant
	tail     []wire.TailRecord
	lost     bool
	ops      []*Op
	live     int
	// written are the Blocks of every Extent; the first four, if nothing is said.
	written bitmap.Bitmap
	// sum of all that comes from other Replicas.
	sum uint32
}

func (s *script) LeaseUntil(id ident.ReplicaID) Instant         { return s.leases[id] }
func (s *script) Promised(ident.ReplicaID) Instant              { return s.promised }
func (s *script) Tail(into []wire.TailRecord) []wire.TailRecord { return append(into, s.tail...) }
func (s *script) Doubtful(func(offset, length int64))           {}
func (s *script) PowerLost() bool                               { return s.lost }
func (s *script) Extents(_ uint32, f func(wire.ExtentDigest) bool) {
	f(wire.ExtentDigest{Epoch: 1, Digest: 7})
}

func (s *script) Written(uint32) bitmap.Bitmap              { return s.written }
func (s *script) Checksum(int64) (sum uint32, written bool) { return 7, true }
func (s *script) Sum(Payload) uint32                        { return s.sum }
func (s *script) Observe(time.Duration)                     {}
func (s *script) AcquireRebuild(int) bool                   { return true }
func (s *script) ReleaseRebuild()                           {}
func (s *script) Encode(encoded []byte) Payload {
	return newMemory(&s.live, nil, slices.Clone(encoded))
}
func (s *script) Bytes(p Payload) []byte { return p.(*memory).bytes }
func (s *script) LastSeq() ident.Seq {
	last := ident.Seq(0)
	for _, t := range s.tail {
		last = max(last, t.Seq)
	}
	return last
}

var opcodes = map[string]wire.Opcode{
	"read": wire.OpRead, "write": wire.OpWrite, "flush": wire.OpFlush, "discard": wire.OpDiscard,
	"write-zeroes": wire.OpWriteZeroes, "repl-write": wire.OpReplWrite, "repl-discard": wire.OpReplDiscard,
	"repl-write-zeroes": wire.OpReplWriteZeroes, "repl-flush": wire.OpReplFlush, "rebuild-start": wire.OpRebuildStart,
	"rebuild-write": wire.OpRebuildWrite, "rebuild-discard": wire.OpRebuildDiscard, "checksum": wire.OpChecksum,
	"tail": wire.OpTail, "record": wire.OpRecord, "fetch": wire.OpFetch, "rebuild-spoil": wire.OpRebuildSpoil,
	"yield": wire.OpYield,
}

var statuses = []string{
	"ok", "stale-epoch", "not-primary", "fenced", "no-space", "io", "corruption", "invalid", "not-found", "busy",
	"too-few",
}

func nameOf(o wire.Opcode) string {
	for name, opcode := range opcodes {
		if opcode == o {
			return name
		}
	}
	return "?"
}

// arg is a number given to a command, or otherwise if it is not.
func arg[T ~uint64 | ~int64 | ~uint32 | ~int](d *datadriven.TestData, name string, otherwise T) T {
	n := int(otherwise)
	if d.HasArg(name) {
		for _, a := range d.CmdArgs {
			if a.Key == name {
				if _, err := fmt.Sscan(a.Vals[0], &n); err != nil {
					panic(err)
				}
			}
		}
	}
	return T(n)
}

func text(d *datadriven.TestData, name string) string {
	for _, a := range d.CmdArgs {
		if a.Key == name && len(a.Vals) > 0 {
			return a.Vals[0]
		}
	}
	return ""
}

func record(d *datadriven.TestData) membership.Record {
	r := membership.Record{Epoch: arg[ident.Epoch](d, "epoch", 0), Primary: arg[ident.ReplicaID](d, "primary", 0)}
	for _, a := range d.CmdArgs {
		if a.Key == "insync" {
			for _, v := range a.Vals {
				var id ident.ReplicaID
				if _, err := fmt.Sscan(v, &id); err != nil {
					panic(err)
				}
				r.InSync = append(r.InSync, id)
			}
		}
	}
	without := arg[ident.ReplicaID](d, "without", 0)
	for id := ident.ReplicaID(1); id <= 3 && r.Epoch > 0; id++ {
		if id != without {
			r.Replicas = append(r.Replicas, membership.Replica{ID: id})
		}
	}
	return r
}

func (s *script) run(d *datadriven.TestData) string {
	id := arg[ident.ReplicaID](d, "id", 0)
	switch d.Cmd {
	case "new":
		*s = script{t: s.t, leases: map[ident.ReplicaID]Instant{}, lost: d.HasArg("power-lost"), promised: s.promised}
		for i := range 4 {
			s.written.Set(i)
		}
		for seq := arg[ident.Seq](d, "tail", 1); d.HasArg("tail") && len(s.tail) < 2; seq++ {
			s.tail = append(s.tail, wire.TailRecord{Seq: seq, Epoch: 1, Offset: uint64(seq%4) * 4096, Length: 4096})
		}
		s.m = New(Config{
			Self: ident.ReplicaKey{Replica: arg[ident.ReplicaID](d, "self", 1)}, Size: extentSize, Record: record(d),
			Life: arg[uint64](d, "life", 0), Environment: s, Timing: DefaultTiming(),
		})
		if !d.HasArg("untold") {
			s.m.Require(s.now, arg(d, "min", 1))
		}
	case "require":
		s.m.Require(s.now, arg(d, "min", 1))
	case "adopt":
		if err := s.m.Adopt(s.now, record(d)); err != nil {
			return err.Error() + "\n" + s.ready()
		}
	case "written":
		for i := range arg(d, "blocks", 1) {
			s.written.Set(arg(d, "block", 0) + i)
		}
		if d.HasArg("no-more") {
			s.written = bitmap.Bitmap{}
		}
	case "connect":
		s.m.Connected(s.now, id, d.HasArg("restarted"))
	case "introduced":
		s.m.Introduced(s.now)
	case "leave":
		s.m.Leave(s.now)
	case "leaves":
		s.m.Leaves(s.now, id)
	case "status":
		return s.m.Status().Message + "\n"
	case "plead":
		s.m.Plead(s.now, arg(d, "epoch", s.m.record.Epoch))
	case "held":
		return fmt.Sprintf("%v\n", s.m.Held())
	case "disconnect":
		s.m.Disconnected(s.now, id)
	case "lease":
		s.leases[id] = s.now.After(time.Duration(arg(d, "ms", 60000)) * time.Millisecond)
	case "tick":
		for left := arg(d, "ms", 75); left > 0; left -= 75 {
			s.now = s.now.After(time.Duration(min(left, 75)) * time.Millisecond)
			s.m.Tick(s.now)
		}
	case "persisted":
		var err error
		if d.HasArg("err") {
			err = errors.New("the device failed")
		}
		s.m.Persisted(s.now, arg(d, "epoch", s.m.record.Epoch), err)
	case "stored":
		s.stored(d)
	case "client", "message":
		s.step(d)
	default:
		d.Fatalf(s.t, "unknown command %q", d.Cmd)
	}
	return s.ready()
}

// stored ends the oldest Op, or all of them.
func (s *script) stored(d *datadriven.TestData) {
	for again := true; again && len(s.ops) > 0; again = d.HasArg("all") {
		op := s.ops[0]
		s.ops = s.ops[1:]
		switch text(d, "err") {
		case "no-space":
			op.Err = ErrNoSpace
		case "io":
			op.Err = errors.New("the device failed")
		case "corruption":
			op.Err = ErrCorruption
		case "busy":
			op.Err = ErrBusy
		}
		if op.Kind == Read && op.Err == nil {
			op.Payload = newMemory(&s.live, make([]uint64, op.Length/4096), nil)
		}
		s.m.Stored(s.now, op)
	}
}

// step hands over a message of a client, or of another Replica.
func (s *script) step(d *datadriven.TestData) {
	h := wire.Header{
		Opcode: opcodes[text(d, "op")], Epoch: arg(d, "epoch", s.m.record.Epoch),
		Session: arg[ident.SessionID](d, "session", 1), Request: arg[ident.RequestID](d, "request", 0),
		Seq: arg[ident.Seq](d, "seq", 0), From: arg[ident.ReplicaID](d, "from", 0),
		Committed: arg[ident.Seq](d, "committed", 0), Generation: arg[ident.Generation](d, "generation", 0),
		Offset: arg[uint64](d, "block", 0) * 4096, Length: arg[uint32](d, "blocks", 1) * 4096,
		Snapshot: arg[uint64](d, "snapshot", 0),
	}
	message := Message{Header: h}
	if i := slices.Index(statuses, text(d, "status")); i >= 0 {
		message.Flags, message.Status = wire.FlagReply, wire.Status(i)
	}
	if d.HasArg("power-lost") {
		message.Flags |= wire.FlagPowerLost
	}
	switch {
	case d.Cmd == "client":
		message.Route = s
		fallthrough
	case !message.IsReply():
		if h.Opcode == wire.OpWrite || h.Opcode == wire.OpReplWrite || h.Opcode == wire.OpRebuildWrite {
			message.Payload, message.PayloadLength = newMemory(&s.live, make([]uint64, h.Length/4096), nil), h.Length
		}
	case h.Opcode == wire.OpFetch && message.Status == wire.StatusOK:
		message.Payload, message.PayloadLength = newMemory(&s.live, []uint64{1}, nil), h.Length
		s.sum = arg[uint32](d, "sum", 7)
	case h.Opcode == wire.OpTail:
		message.Payload = s.Encode(wire.AppendTail(nil, nil))
	case h.Opcode == wire.OpChecksum:
		message.Length, message.Payload = 1, s.Encode(wire.AppendDigests(nil, nil))
	}
	if d.HasArg("insync") {
		message.Payload = s.Encode(wire.AppendRecord(nil, record(d)))
	}
	s.m.Step(s.now, &message)
}

// ready prints what is Ready, and what the Replica is.
func (s *script) ready() string {
	var b strings.Builder
	for {
		r, ok := s.m.Ready()
		if !ok {
			break
		}
		if r.Record != nil {
			fmt.Fprintf(&b, "remember epoch %d\n", r.Record.Epoch)
		}
		if r.Sound {
			b.WriteString("remember that nothing is missing\n")
		}
		if r.Generation != 0 {
			fmt.Fprintf(&b, "remember generation %d\n", r.Generation)
		}
		for _, op := range r.Stores {
			kind := [...]string{"", "read", "write", "discard", "zeroes", "flush", "spoil"}[op.Kind]
			fmt.Fprintf(&b, "store %s block %d+%d seq %d epoch %d", kind, op.Offset/4096, op.Length/4096, op.Seq, op.Epoch)
			if op.FUA {
				b.WriteString(" fua")
			}
			b.WriteByte('\n')
			s.ops = append(s.ops, op)
		}
		for i := range r.Sends {
			s.print(&b, &r.Sends[i])
		}
		for _, f := range r.Findings {
			kind := [...]string{"", "healed", "lost", "differs", "stuck", "slow", "yielded"}[f.Kind]
			fmt.Fprintf(&b, "%s: replica %d block %d+%d from %d\n", kind, f.Replica, f.Offset/4096, f.Length/4096, f.From)
		}
		if p := r.Propose; p != nil {
			fmt.Fprintf(&b, "propose epoch %d primary %d in sync %v\n", p.Epoch, p.Primary, p.InSync)
		}
		s.m.Done()
	}
	role := [...]string{"", "idle", "backup", "joining", "claiming", "primary"}[s.m.Status().Role]
	fmt.Fprintf(&b, "%s, epoch %d\n", role, s.m.record.Epoch)
	return b.String()
}

func (s *script) print(b *strings.Builder, message *Message) {
	h := &message.Header
	to := fmt.Sprintf("to %d", h.To)
	if message.Route != nil {
		to = "to client"
	}
	fmt.Fprintf(b, "%s: %s epoch %d", to, nameOf(h.Opcode), h.Epoch)
	if h.Seq > 0 {
		fmt.Fprintf(b, " seq %d", h.Seq)
	}
	if message.Route != nil {
		fmt.Fprintf(b, " request %d", h.Request)
	}
	if life := h.Request >> lifeShift; life > 0 && message.Route == nil {
		fmt.Fprintf(b, " life %d", life)
	}
	if h.IsReply() {
		fmt.Fprintf(b, " %s", statuses[h.Status])
	}
	if isCopy(h.Opcode) || h.Opcode == wire.OpFetch {
		fmt.Fprintf(b, " block %d+%d", h.Offset/4096, h.Length/4096)
	}
	b.WriteByte('\n')
	release(message.Payload)
}

func TestEachRuleIsAScript(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Helper()
		s := &script{t: t}
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string { return s.run(d) })
	})
}
