package fuse

import (
	"encoding/binary"
	"errors"
	"testing"
)

// encode makes a message of an opcode with the given body, as the kernel would.
func encode(op opcode, unique uint64, body []byte) []byte {
	b := make([]byte, inHeaderSize, inHeaderSize+len(body))
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(inHeaderSize+len(body)))
	le.PutUint32(b[4:], uint32(op))
	le.PutUint64(b[8:], unique)
	le.PutUint64(b[16:], volumeNode)
	return append(b, body...)
}

// split puts a message where a reader finds it.
func split(b []byte) (head [headSize]byte, rest []byte) {
	n := copy(head[:], b)
	rest = make([]byte, maxIO)
	copy(rest, b[n:])
	return head, rest
}

func ioBody(offset uint64, size uint32, payload int) []byte {
	b := make([]byte, ioInSize+payload)
	binary.LittleEndian.PutUint64(b[8:], offset)
	binary.LittleEndian.PutUint32(b[16:], size)
	return b
}

func TestDecodeReadsWhatTheKernelSends(t *testing.T) {
	fallocate := make([]byte, fallocateSize)
	binary.LittleEndian.PutUint64(fallocate[8:], 4096)
	binary.LittleEndian.PutUint64(fallocate[16:], 1<<40)
	binary.LittleEndian.PutUint32(fallocate[24:], fallocPunchHole)
	for name, tc := range map[string]struct {
		op   opcode
		body []byte
		want message
	}{
		"read":      {opRead, ioBody(8192, 4096, 0), message{offset: 8192, length: 4096}},
		"write":     {opWrite, ioBody(8192, 4096, 4096), message{offset: 8192, length: 4096}},
		"fallocate": {opFallocate, fallocate, message{offset: 4096, length: 1 << 40, mode: fallocPunchHole}},
		"lookup":    {opLookup, []byte("volume\x00"), message{isVolume: true}},
		"other":     {opLookup, []byte("volumes\x00"), message{}},
		"unknown":   {9999, make([]byte, 300), message{}},
	} {
		raw := encode(tc.op, 7, tc.body)
		head, rest := split(raw)
		tc.want.op, tc.want.unique, tc.want.node = tc.op, 7, volumeNode
		if got, err := decode(&head, rest, len(raw)); err != nil || got != tc.want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, tc.want)
		}
	}
}

func TestDecodeRefusesLengthsThatDoNotFit(t *testing.T) {
	for name, raw := range map[string][]byte{
		"no header":             make([]byte, inHeaderSize-1),
		"short read":            encode(opRead, 7, make([]byte, ioInSize-1)),
		"short fallocate":       encode(opFallocate, 7, make([]byte, fallocateSize-1)),
		"short init":            encode(opInit, 7, make([]byte, initInMin-1)),
		"less payload promised": encode(opWrite, 7, ioBody(0, 4096, 8192)),
		"more payload promised": encode(opWrite, 7, ioBody(0, 8192, 4096)),
		"wrong length":          append(encode(opRead, 7, ioBody(0, 4096, 0)), 0),
	} {
		head, rest := split(raw)
		if got, err := decode(&head, rest, len(raw)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: got %+v, %v, want %v", name, got, err, errMalformed)
		}
	}
}

func TestOnlyAlignedRangesWithinTheFileFit(t *testing.T) {
	e := &Export{size: 1 << 20}
	for _, tc := range []struct {
		offset, length uint64
		want           bool
	}{
		{0, 4096, true},
		{0, 1 << 20, true},
		{1<<20 - 4096, 4096, true},
		{0, 0, false},
		{1, 4096, false},
		{0, 4095, false},
		{1 << 20, 4096, false},
		{1<<20 - 4096, 8192, false},
		{^uint64(4095), 8192, false},
		{4096, ^uint64(4095), false},
	} {
		if got := e.fits(message{node: volumeNode, offset: tc.offset, length: tc.length}); got != tc.want {
			t.Errorf("fits(offset %d, length %d) = %v, want %v", tc.offset, tc.length, got, tc.want)
		}
	}
}

func FuzzDecodeNeverTrustsALength(f *testing.F) {
	f.Add(encode(opWrite, 1, ioBody(0, 4096, 4096)))
	f.Add(encode(opInit, 1, make([]byte, 64)))
	f.Add(encode(opFallocate, 1, make([]byte, fallocateSize)))
	f.Add(encode(opLookup, 1, []byte("volume\x00")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > headSize+maxIO {
			return
		}
		head, rest := split(raw)
		m, err := decode(&head, rest, len(raw))
		if err != nil {
			return
		}
		if m.op == opWrite && int(m.length) != len(raw)-headSize {
			t.Errorf("a WRITE of %d bytes was accepted with %d bytes of payload", m.length, len(raw)-headSize)
		}
		e := &Export{size: 1 << 30}
		if e.fits(m) && (m.offset+m.length > 1<<30 || m.offset+m.length < m.offset) {
			t.Errorf("offset %d, length %d passed for a range of the file", m.offset, m.length)
		}
	})
}
