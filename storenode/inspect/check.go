package inspect

import (
	"errors"
	"fmt"
	"io"

	"github.com/shale-storage/shale/storenode/checksum"
	"github.com/shale-storage/shale/storenode/extent"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/store"
)

// ErrBroken says that an invariant of the Device does not hold.
var ErrBroken = errors.New("the device is damaged")

// maxPrinted bounds the breaches that are printed one by one.
const maxPrinted = 100

// checker counts breaches.
type checker struct {
	*state
	p      *printer
	broken int
	blocks int
}

// Check prints what a Device holds and each breach of an invariant, and fails with ErrBroken if there is one.
func Check(w io.Writer, path string, boot uint64) error {
	s, err := read(path, boot)
	if err != nil {
		return err
	}
	defer s.file.Close() //nolint:errcheck // it was only read
	return s.check(w, path)
}

func (s *state) check(w io.Writer, path string) error {
	c := &checker{state: s, p: &printer{w: w}}
	s.show(c.p, path)
	c.p.line("")
	c.metadata()
	if err := c.extents(); err != nil {
		return fmt.Errorf("check device %s: %w", path, err)
	}
	c.space()
	c.p.line("check       %d blocks verified, %d breaches", c.blocks, c.broken)
	if c.p.err == nil && c.broken > 0 {
		return fmt.Errorf("check device %s: %d breaches: %w", path, c.broken, ErrBroken)
	}
	return c.p.err
}

func (c *checker) breach(format string, args ...any) {
	if c.broken++; c.broken <= maxPrinted {
		c.p.line("BROKEN      "+format, args...)
	}
}

func (c *checker) metadata() {
	if c.bad >= 0 {
		c.breach("superblock copy %d", c.bad)
	}
	if c.Fallback {
		c.breach("a checkpoint that may be the newest")
	}
	if len(c.Damaged) > 0 {
		c.breach("%d blocks hold neither what they should nor what they did", len(c.Damaged))
	}
}

// extents verifies each allocated Extent: its owner, its place and its Blocks.
func (c *checker) extents() error {
	carried := map[uint32][]store.Carried{}
	for _, b := range c.Carried {
		carried[b.Extent] = append(carried[b.Extent], b)
	}
	data := make([]byte, layout.ExtentSize)
	for x := range c.Table.Len() {
		h, logical := c.Table.Owner(x)
		if h == extent.None {
			continue
		}
		r := c.Table.Replica(h)
		switch {
		case r == nil:
			c.breach("extent %d belongs to replica handle %d, which does not exist", x, h)
			continue
		case int64(logical)*layout.ExtentSize >= r.Size:
			c.breach("extent %d lies beyond the end of %s", x, r.Key)
			continue
		case c.Table.Find(h, logical) != x:
			c.breach("extent %d is not where %s looks for it", x, r.Key)
			continue
		}
		if _, err := c.file.ReadAt(data, c.super.ExtentStart(x)); err != nil {
			c.breach("extent %d of %s cannot be read: %v", x, r.Key, err)
			continue
		}
		for _, b := range carried[x] {
			if _, err := c.file.ReadAt(data[b.Block*ident.BlockSize:(b.Block+1)*ident.BlockSize], b.Journal); err != nil {
				return fmt.Errorf("read journal: %w", err)
			}
		}
		c.verify(r, logical, c.Table.Blocks(x), data)
	}
	return nil
}

func (c *checker) verify(r *extent.Replica, logical uint32, blocks *layout.Blocks, data []byte) {
	for i := range layout.ExtentBlocks {
		if !blocks.Has(i) {
			continue
		}
		c.blocks++
		if checksum.Block(data[i*ident.BlockSize:(i+1)*ident.BlockSize]) != blocks.CRC[i] {
			c.breach("%s: checksum of the block at %d", r.Key, int64(logical)*layout.ExtentSize+int64(i)*ident.BlockSize)
		}
	}
}

// space verifies that the counts add up.
func (c *checker) space() {
	var promised int64
	used := 0
	c.Table.Handles(func(_ uint32, r *extent.Replica) {
		promised += r.Size
		used += int(r.Used)
	})
	if promised != c.Table.Reserved {
		c.breach("%d bytes are promised to replicas, %d are counted", promised, c.Table.Reserved)
	}
	if used != c.Table.Used() || c.Table.Used()+c.Table.FreeCount() != int(c.Table.Len()) {
		c.breach("%d extents are owned, %d counted as used and %d as free, of %d", used, c.Table.Used(),
			c.Table.FreeCount(), c.Table.Len())
	}
}
