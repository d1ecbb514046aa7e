package fuse

import (
	"encoding/binary"
	"errors"
)

// opcode is what the kernel asks for. The numbers are those of linux/fuse.h.
type opcode uint32

const (
	opLookup      opcode = 1
	opForget      opcode = 2
	opGetattr     opcode = 3
	opSetattr     opcode = 4
	opOpen        opcode = 14
	opRead        opcode = 15
	opWrite       opcode = 16
	opStatfs      opcode = 17
	opRelease     opcode = 18
	opFsync       opcode = 20
	opFlush       opcode = 25
	opInit        opcode = 26
	opAccess      opcode = 34
	opInterrupt   opcode = 36
	opDestroy     opcode = 38
	opBatchForget opcode = 42
	opFallocate   opcode = 43
)

// Sizes of the kernel's structures, in bytes.
const (
	inHeaderSize  = 40
	ioInSize      = 40 // struct fuse_read_in and fuse_write_in
	initInMin     = 16
	fallocateSize = 32
	outHeaderSize = 16
	attrSize      = 88
	initOutSize   = 64
	entryOutSize  = 40 + attrSize
	attrOutSize   = 16 + attrSize
	openOutSize   = 16
	writeOutSize  = 8
	statfsOutSize = 80

	// headSize is what a reader posts before the payload: the headers of a WRITE.
	headSize = inHeaderSize + ioInSize
)

// The version of the protocol spoken here, and the oldest that has all that is needed (FUSE_MAX_PAGES).
const (
	protocolMajor    = 7
	protocolMinor    = 36
	protocolMinorMin = 28
)

// Flags of INIT (flags, flags2) and of OPEN.
const (
	initAsyncRead = 1 << 0
	initBigWrites = 1 << 5
	initAsyncDIO  = 1 << 15
	initMaxPages  = 1 << 22
	initExtended  = 1 << 30
	// initHasResend is in flags2: the kernel knows notifyResend (6.9).
	initHasResend = 1 << 7

	openDirectIO             = 1 << 0
	openParallelDirectWrites = 1 << 6
)

// Modes of FALLOCATE.
const (
	fallocKeepSize  = 0x01
	fallocPunchHole = 0x02
	fallocZeroRange = 0x10
)

// notifyResend makes the kernel send again, in the order of their age, all requests that were read and not answered.
// Each keeps its unique but for a bit that marks it, so it is answered like any other.
const notifyResend = 7

// rootNode and volumeNode are the two things there are.
const (
	rootNode   = 1
	volumeNode = 2
)

// errMalformed says that a message is not what its headers promise.
var errMalformed = errors.New("malformed request")

// message is one decoded request. Fields that its opcode does not use are zero.
type message struct {
	op     opcode
	unique uint64
	node   uint64
	// offset and length of READ, WRITE and FALLOCATE; mode of the last.
	offset uint64
	length uint64
	mode   uint32
	// isVolume: a LOOKUP for the file's name.
	isVolume bool
	// These are what INIT brings.
	major, minor, readahead, flags, flags2 uint32
}

// decode reads a message of n bytes that the kernel put into head and then, beyond headSize, into rest.
// A message which is long enough for a header but wrong otherwise comes back with errMalformed and its unique set, so
// that it can be answered.
func decode(head *[headSize]byte, rest []byte, n int) (message, error) {
	if n < inHeaderSize || n > headSize+len(rest) {
		return message{}, errMalformed
	}
	le := binary.LittleEndian
	m := message{op: opcode(le.Uint32(head[4:])), unique: le.Uint64(head[8:]), node: le.Uint64(head[16:])}
	if int64(le.Uint32(head[0:])) != int64(n) {
		return m, errMalformed
	}
	return m, m.decodeBody(head[inHeaderSize:min(n, headSize)], n)
}

// decodeBody reads what follows the header: body is its part in the head, n the size of the whole message.
func (m *message) decodeBody(body []byte, n int) error {
	le := binary.LittleEndian
	switch m.op {
	case opRead, opWrite:
		if len(body) < ioInSize {
			return errMalformed
		}
		m.offset, m.length = le.Uint64(body[8:]), uint64(le.Uint32(body[16:]))
		if m.op == opWrite && m.length != uint64(n-headSize) {
			return errMalformed
		}
	case opFallocate:
		if len(body) < fallocateSize {
			return errMalformed
		}
		m.offset, m.length, m.mode = le.Uint64(body[8:]), le.Uint64(body[16:]), le.Uint32(body[24:])
	case opLookup:
		m.isVolume = string(body) == FileName+"\x00"
	case opInit:
		if len(body) < initInMin {
			return errMalformed
		}
		m.major, m.minor = le.Uint32(body[0:]), le.Uint32(body[4:])
		m.readahead, m.flags = le.Uint32(body[8:]), le.Uint32(body[12:])
		if m.flags&initExtended != 0 && len(body) >= initInMin+4 {
			m.flags2 = le.Uint32(body[16:])
		}
	case opForget, opGetattr, opSetattr, opOpen, opStatfs, opRelease, opFsync, opFlush, opAccess, opInterrupt,
		opDestroy, opBatchForget:
	}
	return nil
}

// putOutHeader writes the header of an answer of n bytes in all.
func putOutHeader(b []byte, unique uint64, errno int32, n int) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(n))
	le.PutUint32(b[4:], uint32(-errno))
	le.PutUint64(b[8:], unique)
}

// putAttr writes the attributes of node.
func putAttr(b []byte, node uint64, size int64) {
	const directory, file = 0o040700, 0o100600
	le := binary.LittleEndian
	mode, links := uint32(file), uint32(1)
	if node == rootNode {
		mode, links, size = directory, 2, 0
	}
	le.PutUint64(b[0:], node)
	le.PutUint64(b[8:], uint64(size))
	le.PutUint64(b[16:], uint64(size)/512)
	le.PutUint32(b[60:], mode)
	le.PutUint32(b[64:], links)
	le.PutUint32(b[80:], blockSize)
}

// attrValid is how long the kernel may believe attributes and names, in seconds: nothing here ever changes.
const attrValid = 1 << 30

func putEntry(b []byte, size int64) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], volumeNode)
	le.PutUint64(b[16:], attrValid)
	le.PutUint64(b[24:], attrValid)
	putAttr(b[40:], volumeNode, size)
}

func putAttrOut(b []byte, node uint64, size int64) {
	binary.LittleEndian.PutUint64(b[0:], attrValid)
	putAttr(b[16:], node, size)
}

func putStatfs(b []byte, size int64) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], uint64(size/blockSize))
	le.PutUint64(b[24:], 1)
	// The loop driver takes the granularity of discards from bsize.
	le.PutUint32(b[40:], blockSize)
	le.PutUint32(b[44:], 255)
	le.PutUint32(b[48:], blockSize)
}

// putInit answers INIT: asynchronous direct I/O in pieces of up to 1 MiB, as many at a time as there are slots.
func putInit(b []byte, m message) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], protocolMajor)
	le.PutUint32(b[4:], min(protocolMinor, m.minor))
	le.PutUint32(b[8:], m.readahead)
	le.PutUint32(b[12:], m.flags&(initAsyncRead|initBigWrites|initAsyncDIO|initMaxPages))
	le.PutUint16(b[16:], slots)
	le.PutUint16(b[18:], slots)
	le.PutUint32(b[20:], maxIO)
	le.PutUint32(b[24:], 1)
	le.PutUint16(b[28:], maxIO/4096)
}

// putNotify makes a notification without a body: it has the form of an answer to no request.
func putNotify(b []byte, code int32) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], outHeaderSize)
	le.PutUint32(b[4:], uint32(code))
	le.PutUint64(b[8:], 0)
}
