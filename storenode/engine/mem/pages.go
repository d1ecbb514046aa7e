package mem

import (
	"bytes"
	"iter"
)

// pageSize is the unit of contents, in bytes; chunkPages are the pages of a part of the table, which is taken when
// something is written there, so that a large Device costs what is written.
const pageSize, chunkPages = 4096, 256

// part is what a write does to a page: bytes from..to of it.
type part struct {
	number   int64
	from, to int
	page     page
}

// split are the parts of a write.
func split(data []byte, offset int64) iter.Seq[part] {
	return func(yield func(part) bool) {
		for len(data) > 0 {
			from := int(offset % pageSize)
			n := min(len(data), pageSize-from)
			p := part{number: offset / pageSize, from: from, to: from + n}
			if n == pageSize {
				p.page = pack(data[:n])
			} else {
				var whole [pageSize]byte
				copy(whole[from:], data[:n])
				p.page = pack(whole[:])
			}
			if !yield(p) {
				return
			}
			data, offset = data[n:], offset+int64(n)
		}
	}
}

// page is how contents of pageSize bytes are kept: what they begin with, and as their end the last tail bytes; all
// between is zero. Without a byte it is zeros altogether. It never changes.
type page []byte

// tail is how much of a page's end is always kept; heads are how much of its beginning may be enough. Tests write
// mostly zeros, and what they take costs time.
const tail = 64

var (
	heads = [...]int{64, 512}
	zeros [pageSize]byte
)

func pack(b []byte) page {
	if bytes.Equal(b, zeros[:]) {
		return nil
	}
	for _, head := range heads {
		if bytes.Equal(b[head:pageSize-tail], zeros[head:pageSize-tail]) {
			p := make(page, head+tail)
			copy(p, b[:head])
			copy(p[head:], b[pageSize-tail:])
			return p
		}
	}
	return append(page(nil), b...)
}

// unpack writes all of the page.
func (p page) unpack(into []byte) {
	if len(p) == 0 {
		clear(into)
		return
	}
	head := len(p) - tail
	copy(into, p[:head])
	clear(into[head : pageSize-tail])
	copy(into[pageSize-tail:], p[head:])
}

type chunk [chunkPages]page

// sparse is contents by page.
type sparse []*chunk

func (s sparse) copied() sparse {
	c := make(sparse, len(s))
	for i, from := range s {
		if from != nil {
			clone := *from
			c[i] = &clone
		}
	}
	return c
}

func (s sparse) page(number int64) page {
	if i := number / chunkPages; i < int64(len(s)) && s[i] != nil {
		return s[i][number%chunkPages]
	}
	return nil
}

// put makes a part the contents.
func (s *sparse) put(p part) {
	i, now := p.number/chunkPages, s.page(p.number)
	if p.to-p.from < pageSize {
		var mixed, changed [pageSize]byte
		now.unpack(mixed[:])
		p.page.unpack(changed[:])
		copy(mixed[p.from:p.to], changed[p.from:])
		p.page = pack(mixed[:])
	}
	if len(p.page) == 0 && len(now) == 0 {
		return
	}
	for int64(len(*s)) <= i {
		*s = append(*s, nil)
	}
	if (*s)[i] == nil {
		(*s)[i] = new(chunk)
	}
	(*s)[i][p.number%chunkPages] = p.page
}

func (s sparse) read(into []byte, offset int64) {
	for len(into) > 0 {
		from := offset % pageSize
		n := min(len(into), int(pageSize-from))
		if p := s.page(offset / pageSize); n == pageSize {
			p.unpack(into[:n])
		} else {
			var whole [pageSize]byte
			p.unpack(whole[:])
			copy(into[:n], whole[from:])
		}
		into, offset = into[n:], offset+int64(n)
	}
}
