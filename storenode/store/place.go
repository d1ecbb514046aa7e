package store

import (
	"math"
	"slices"

	"github.com/shale-storage/shale/storenode/engine"
	"github.com/shale-storage/shale/storenode/journal"
)

const (
	// maxCarried is how many Blocks of a piece the Journal carries at most; larger pieces go to their place themselves.
	maxCarried = 8
	// minPages and maxPages bound the Blocks that wait to be placed, by the size of the Journal.
	minPages, maxPages = 32, 2048
	// maxPlacing bounds those on their way, so that foreground IOs find the Device free.
	maxPlacing = 32
)

// placer brings Blocks that the Journal carries to their place: later, many at a time, in the order of place. Until
// then they are read from its pages. A flush goes before, so that no loss of power can take the record of a Block whose
// old contents are gone.
type placer struct {
	s      *Store
	memory []byte
	pages  []page
	free   []uint16
	// newest is the page of a Block, as reads see it, by Extent and Block.
	newest map[uint64]uint16
	// waiting are pages to be placed, and dead ones, oldest first; round those of the round under way, from next on.
	waiting, round []uint16
	next, inFlight int
	phase          placing
	// rounds that are over, and how many are wanted whatever waits.
	rounds, wanted uint64
	// io asks for the flush of a round.
	io IO
	// held are pieces whose data must not overtake what is on its way to the same Blocks.
	held []*piece
}

// placing is the phase of a round.
type placing uint8

const (
	resting placing = iota
	flushingRecords
	moving
)

// page is one Block on its way from the Journal to its place.
type page struct {
	p       *placer
	request engine.Request
	key     uint64
	state   pageState
	// under was on its way to the same place when this one was recorded; noPage if none was. It may have arrived since.
	under uint16
}

const noPage = math.MaxUint16

type pageState uint8

const (
	pageFree pageState = iota
	// pageCarried: the record is on its way; nobody reads it yet.
	pageCarried
	pageWaiting
	pagePlacing
	// pageDead: replaced or discarded while it waited.
	pageDead
)

func (p *placer) init(s *Store) error {
	p.s = s
	n := int(min(max(s.super.Frames()/8, minPages), maxPages))
	var err error
	if p.memory, err = s.o.memory().Map(n * block); err != nil {
		return err
	}
	p.pages = make([]page, n)
	p.newest = make(map[uint64]uint16, n)
	for i := n - 1; i >= 0; i-- {
		p.pages[i].p = p
		p.free = append(p.free, uint16(i))
	}
	p.io = IO{Op: OpFlush, Done: p}
	return nil
}

func pageKey(x uint32, b int) uint64 { return uint64(x)<<16 | uint64(b) }

func (p *placer) bytes(i uint16) []byte { return p.memory[int(i)*block : (int(i)+1)*block] }

// hasRoom reports whether n more Blocks can wait.
func (p *placer) hasRoom(n int) bool { return len(p.free) >= n }

// carry keeps the data of a piece, for which there is room, while its record and the data go to the Journal.
func (p *placer) carry(of *piece, first int, data []byte) {
	of.carried = len(data) / block
	for i := range of.carried {
		n := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		of.pages[i] = n
		p.pages[n].key, p.pages[n].state = pageKey(of.extent, first+i), pageCarried
		copy(p.bytes(n), data[i*block:])
		p.s.table.Use(of.extent)
	}
}

// recorded makes the data of a piece visible: its record is written and applied. After an error it is forgotten.
func (p *placer) recorded(of *piece) {
	for _, n := range of.pages[:of.carried] {
		if of.err != nil {
			p.put(n)
			continue
		}
		g := &p.pages[n]
		p.kill(g.key)
		g.state, g.under = pageWaiting, noPage
		if older, ok := p.newest[g.key]; ok {
			g.under = older
		}
		p.newest[g.key] = n
		p.waiting = append(p.waiting, n)
	}
	of.carried = 0
}

// kill forgets a Block that waits, because something newer takes its place. One that is on its way there goes on to be
// known, or what is newer might arrive before it.
func (p *placer) kill(key uint64) {
	n, ok := p.newest[key]
	if !ok || p.pages[n].state != pageWaiting {
		return
	}
	p.pages[n].state = pageDead
	delete(p.newest, key)
	p.s.table.Unuse(uint32(key >> 16))
	// A page that has arrived may be another Block's by now. For the same one there is none on its way then: it would
	// have been recorded after this page, and have killed it.
	if u := p.pages[n].under; u != noPage && p.pages[u].state == pagePlacing && p.pages[u].key == key {
		p.newest[key] = u
	}
}

// killAll forgets the Blocks of an Extent from first on that wait.
func (p *placer) killAll(x uint32, first, blocks int) {
	if len(p.newest) == 0 {
		return
	}
	for i := first; i < first+blocks; i++ {
		p.kill(pageKey(x, i))
	}
}

// killReplica forgets all of a Replica that is about to be deleted.
func (p *placer) killReplica(h uint32) {
	for key := range p.newest {
		if owner, _ := p.s.table.Owner(uint32(key >> 16)); owner == h {
			p.kill(key)
		}
	}
}

// visible is the data of a Block that is not in its place yet, or nil.
func (p *placer) visible(x uint32, b int) []byte {
	if n, ok := p.newest[pageKey(x, b)]; ok {
		return p.bytes(n)
	}
	return nil
}

func (p *placer) put(n uint16) {
	g := &p.pages[n]
	used := g.state != pageDead
	g.state = pageFree
	p.free = append(p.free, n)
	if used {
		p.s.table.Unuse(uint32(g.key >> 16))
	}
}

// isWaiting reports whether any of the Blocks is not in its place yet.
func (p *placer) isWaiting(x uint32, first, blocks int) bool {
	if len(p.newest) == 0 {
		return false
	}
	for i := first; i < first+blocks; i++ {
		if _, ok := p.newest[pageKey(x, i)]; ok {
			return true
		}
	}
	return false
}

// submit sends the data of a piece to its place, once everything older is there: what the Journal carries must not be
// forgotten before what replaces it has arrived, and must not arrive after it.
func (p *placer) submit(of *piece) {
	switch waiting := p.isWaiting(of.extent, of.first, len(of.request.Buf)/block); {
	case waiting && p.s.failed != nil:
		of.err = p.s.failed
		p.s.partDone(of)
		return
	case waiting:
		p.held = append(p.held, of)
		p.drain()
		return
	}
	p.s.device.Submit(&of.request)
}

// advance begins a round when enough waits.
func (p *placer) advance() {
	if p.s.failed != nil {
		p.release()
		return
	}
	if p.phase == resting && (p.rounds < p.wanted || len(p.waiting) >= len(p.pages)/2) {
		p.phase = flushingRecords
		p.round, p.waiting = p.waiting, p.round[:0]
		p.io.state = ioState{parts: 1}
		p.s.flush.add(&p.io)
	}
}

// IODone implements Completer: the records of the round are durable.
func (p *placer) IODone(io *IO) {
	if io.Err != nil {
		p.s.fail(io.Err)
		return
	}
	slices.SortFunc(p.round, func(a, b uint16) int {
		if p.pages[a].key < p.pages[b].key {
			return -1
		}
		return 1
	})
	p.phase, p.next = moving, 0
	p.move()
}

// move keeps pages on their way until the round is over.
func (p *placer) move() {
	for p.next < len(p.round) && p.inFlight < maxPlacing {
		n := p.round[p.next]
		p.next++
		g := &p.pages[n]
		if g.state == pageDead {
			p.put(n)
			continue
		}
		g.state = pagePlacing
		p.inFlight++
		x, b := uint32(g.key>>16), int64(g.key&0xffff)
		g.request = engine.Request{
			Op: engine.OpWrite, Offset: p.s.super.ExtentStart(x) + b*block, Buf: p.bytes(n), Tag: uint64(n), Done: g,
		}
		p.s.device.Submit(&g.request)
	}
	if p.next == len(p.round) && p.inFlight == 0 {
		p.phase = resting
		p.rounds++
	}
}

// Complete implements engine.Completer: a Block is in its place.
func (g *page) Complete(r *engine.Request) {
	p := g.p
	p.inFlight--
	n := uint16(r.Tag)
	if r.Err != nil {
		p.s.fail(r.Err)
		g.state = pageWaiting // it was acknowledged: the page stays, and reads find it there
	} else {
		if p.newest[g.key] == n {
			delete(p.newest, g.key)
		}
		p.put(n)
	}
	p.release()
	if p.s.failed == nil {
		p.move()
	}
}

// release sends the pieces whose way is free by now; on a Device that has failed all of them end.
func (p *placer) release() {
	held := p.held
	p.held = p.held[:0]
	for _, of := range held {
		p.submit(of)
	}
}

// drain asks for all that waits to be placed: it is when so many rounds are over.
func (p *placer) drain() uint64 {
	target := p.rounds
	if p.phase != resting {
		target++
	}
	if len(p.waiting) > 0 {
		target++
	}
	p.wanted = max(p.wanted, target)
	return target
}

// carries reports whether the Journal shall carry the data of a piece that replaces something.
func (s *Store) carries(blocks int) bool {
	return blocks <= maxCarried && s.placer.hasRoom(blocks) && s.journal.fits(journal.WriteSize(blocks), blocks)
}
