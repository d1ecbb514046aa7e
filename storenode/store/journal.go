package store

import (
	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/journal"
)

// maxBatchFrames bounds what is written to the Journal at a time, records and the data that they carry.
const maxBatchFrames = 64

// log writes the Journal: one batch is in flight, the other is open and gathers records.
type log struct {
	s     *Store
	place int64
	// frames of the ring; next is the number of the open batch's first frame; keep the oldest that may be needed.
	frames, next, keep uint64
	flushed            uint64
	// last is the newest frame that speaks of data, seen what it was at the last Rest. noted is the newest of which the
	// Journal says that its data has arrived, noting what the batch in flight says.
	last, seen, noted, noting uint64
	// sending is the first frame of the batch in flight.
	sending uint64
	// gap is the oldest frame whose data the Device did not take, 0 if there is none: it is never settled.
	gap uint64

	open, sent *batch
	inFlight   bool
	request    engine.Request
	// waiting are changes for which the open batch has no room.
	waiting ioList
}

// dataUnit marks a unit of a batch that holds no frame.
const dataUnit = -1

// batch is frames that are written together, and whose they are.
type batch struct {
	memory []byte
	// used bytes of records in each frame begun; dataUnit in a unit of data.
	used [maxBatchFrames]int
	// count of units begun; head is the last of them that holds records. Its data is behind it.
	count, head int
	pieces      []*piece
}

func (l *log) init(s *Store, r *Recovered) error {
	l.s, l.place, l.frames = s, s.super.JournalStart(), s.super.Frames()
	// Numbers leave out a whole lap: behind a gap that a loss of power has left, any frames may be whole that were not
	// flushed, and once the gap is closed they would be taken for what was written now.
	l.next = r.NextFrame + max(l.frames, maxBatchFrames)
	l.keep, l.flushed = r.Checkpoint.Frame, 0
	for _, b := range []**batch{&l.open, &l.sent} {
		memory, err := s.o.memory().Map(maxBatchFrames * journal.FrameSize)
		if err != nil {
			return err
		}
		*b = &batch{memory: memory}
	}
	return nil
}

// submit makes the pieces of a change, or lets it wait for room, behind others that do. One that waits for Extents
// instead keeps nobody: changes on their way together do not overlap, so they need no order.
func (l *log) submit(io *IO) {
	switch {
	case l.waiting.first == nil && l.s.change(io):
		l.s.ioPartDone(io)
	case io.state.starves:
		l.s.starved.push(io)
	default:
		l.waiting.push(io)
	}
}

// limit is how many frames the open batch may have: the batch's bound, the ring's end, and what must be kept.
func (l *log) limit() int {
	place := l.next % l.frames
	room := l.frames - (l.next - l.keep)
	if l.next-l.keep > l.frames {
		room = 0
	}
	return int(min(maxBatchFrames, l.frames-place, room))
}

// hasRoom reports whether a record of n bytes fits the open batch.
func (l *log) hasRoom(n int) bool { return l.hasRoomFor(n, 0) }

// hasRoomFor reports whether a record of n bytes and so many Blocks of data behind it fit the open batch.
func (l *log) hasRoomFor(n, blocks int) bool {
	if !l.open.hasHead(n) {
		blocks++
	}
	return l.open.count+blocks <= l.limit()
}

// fits reports whether they would fit an open batch that is empty, or this one.
func (l *log) fits(n, blocks int) bool { return l.open.count > 0 || l.hasRoomFor(n, blocks) }

// hasHead reports whether the frame begun last has room for n more bytes of records.
func (b *batch) hasHead(n int) bool { return b.count > 0 && b.used[b.head]+n <= journal.FrameRoom }

func (b *batch) unit(i int) []byte { return b.memory[i*journal.FrameSize : (i+1)*journal.FrameSize] }

// add puts a piece's record into the open batch, which has room.
func (l *log) add(p *piece) {
	b := l.open
	if !b.hasHead(len(p.record)) {
		b.head = b.count
		b.used[b.head] = 0
		b.count++
	}
	copy(journal.Room(b.unit(b.head))[b.used[b.head]:], p.record)
	b.used[b.head] += len(p.record)
	b.pieces = append(b.pieces, p)
	p.parts++
	p.frame = l.next + uint64(b.head)
	l.last = p.frame
	p.era = l.s.era
	l.s.piecesOf[p.era]++
	l.s.inFlight.push(p)
}

// addData puts what the record added last carries into the open batch, which has room.
func (l *log) addData(data []byte) {
	b := l.open
	copy(b.memory[b.count*journal.FrameSize:], data)
	for range len(data) / journal.FrameSize {
		b.used[b.count] = dataUnit
		b.count++
	}
}

// send writes the open batch if none is in flight.
func (l *log) send() {
	b := l.open
	switch {
	case l.inFlight:
		return
	case l.s.failed != nil:
		l.end(b, l.s.failed) // and of those that wait for room, which no Checkpoint will give
		return
	case b.count == 0:
		return
	}
	l.open, l.sent = l.sent, b
	l.noting = l.settled()
	l.inFlight, l.sending = true, l.next
	for i := range b.count {
		if b.used[i] == dataUnit {
			continue // the record before speaks of it
		}
		frame := b.unit(i)
		marks := journal.Marks{Flushed: l.flushed, Boot: l.s.o.Boot, Settled: l.noting}
		journal.Seal(frame, l.s.super.Salt, l.next+uint64(i), marks, b.used[i])
	}
	l.request = engine.Request{
		Op: engine.OpWrite, Offset: l.place + int64(l.next%l.frames)*journal.FrameSize,
		Buf: b.memory[:b.count*journal.FrameSize], Done: l,
	}
	l.s.device.Submit(&l.request)
	l.next += uint64(b.count)
	l.resume()
}

// Complete implements engine.Completer: the batch in flight is written.
func (l *log) Complete(r *engine.Request) {
	l.inFlight = false
	if r.Err != nil {
		l.s.fail(r.Err)
		l.end(l.sent, l.s.failed)
		return
	}
	l.noted = max(l.noted, l.noting)
	l.end(l.sent, nil)
}

// rest begins a frame without records, if the Journal does not say yet that all data has arrived, and nothing else is
// going to. It reports whether nothing has changed since the last call.
func (l *log) rest() (quiet bool) {
	quiet = l.last == l.seen
	l.seen = l.last
	idle := l.s.inFlight.first == nil && !l.inFlight && l.open.count == 0
	if quiet && idle && l.last > l.noted && l.gap == 0 && l.limit() > 0 {
		l.open.head, l.open.count, l.open.used[0] = 0, 1, 0
	}
	return quiet
}

// end is the end of a batch. Behind one that failed none is written: recovery ends at the gap, and what is behind it
// would be lost although it was told to be there.
func (l *log) end(b *batch, err error) {
	for i, p := range b.pieces {
		b.pieces[i] = nil
		if p.err == nil {
			p.err = err
		}
		if p.replaces && p.err == nil {
			l.s.placer.submit(p)
			continue
		}
		l.s.partDone(p)
	}
	b.pieces, b.count = b.pieces[:0], 0
	l.resume()
}

// resume goes on with changes that waited for room.
func (l *log) resume() {
	for l.waiting.first != nil {
		io := l.waiting.first
		if l.s.failed != nil && io.state.err == nil {
			io.state.err = l.s.failed
		} else if !l.s.change(io) && !io.state.starves {
			return
		}
		if l.waiting.pop(); io.state.starves {
			l.s.starved.push(io)
			continue
		}
		l.s.ioPartDone(io)
	}
}

// missing notes that the data of a frame is not there, though its record may be.
func (l *log) missing(frame uint64) {
	if l.gap == 0 || frame < l.gap {
		l.gap = frame
	}
}

// settled is the highest frame up to which all data is there.
func (l *log) settled() uint64 {
	settled := l.next - 1
	if p := l.s.inFlight.first; p != nil {
		settled = p.frame - 1
	}
	if l.inFlight { // also one that nobody waits for
		settled = min(settled, l.sending-1)
	}
	if l.gap != 0 && l.gap < l.keep { // a Checkpoint has what is true of it
		l.gap = 0
	}
	if l.gap != 0 {
		settled = min(settled, l.gap-1)
	}
	return settled
}

// isFilling reports whether it is time for a Checkpoint.
func (l *log) isFilling(from uint64) bool { return l.next-from > l.frames/4 }

// isStarved reports whether changes wait for frames that only another Checkpoint gives back.
func (l *log) isStarved() bool {
	return (l.waiting.first != nil || l.s.starved.first != nil) && l.open.count == 0 && l.limit() == 0
}
