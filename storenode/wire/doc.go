// Package wire is the frame format between storenodes and clients: this comment is its specification.
//
// A frame is a Header of 128 bytes and PayloadLength bytes of payload. Integers are little endian.
//
//	 0  magic "SHLE"        4  version=1  5  opcode      6  flags     8  status    10  reserved, 0
//	12  length             16  request               24  session
//	32  volume (16 bytes)                            48  shard index          52  payload length
//	56  epoch              64  generation            72  snapshot             80  offset
//	88  seq                96  committed            104  from                108  to
//	112 payload CRC       116  reserved, 0                                   124  header CRC
//
// The header CRC is the CRC32C of the 124 bytes before it; the payload CRC that of the
// payload, or, if it is whole Blocks, of their checksums (package checksum), 0 without one. A
// receiver believes nothing in a header before its CRC is verified, and no payload length above MaxPayload after. A
// reserved field that is not 0 is refused: it means something to the sender that we do not know.
//
// # Versions
//
// 1: the first. It is in each header, and another one is refused like bytes that are no frame: the connection ends.
// Nothing negotiates: Hello has no version, and is refused with a byte more. So storenodes and clients that are to
// understand each other speak the same version.
//
// # Payloads
//
// Besides data there are a few encoded structures, each bounded and refused as a whole when a byte is wrong, missing or
// left over: Hello, membership.Record, MapPage, TailRecords and ExtentDigests. See payload.go.
//
// Pure: no I/O, clock, goroutine or lock. Errors wrap ErrMalformed.
package wire
