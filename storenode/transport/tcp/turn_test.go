package tcp_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/transport"
	"github.com/shale-storage/shale/storenode/transport/tcp"
	"github.com/shale-storage/shale/storenode/wire"
)

// TestATurnToSendEnds although the socket takes all there is: one by which datagrams go to nobody who reads them.
func TestATurnToSendEnds(t *testing.T) {
	var fds [2]int
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	if err := unix.Bind(fds[0], &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	deaf, err := unix.Getsockname(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fds[1], deaf); err != nil {
		t.Fatal(err)
	}
	const call = tcp.MaxVectors * wire.HeaderSize // a system call takes no more of frames without payload
	frames := make([]transport.Frame, 3*tcp.TurnOut/wire.HeaderSize)
	for i := range frames {
		frames[i].Opcode = wire.OpHeartbeat
	}
	o := options(buffer.New(1 << 20))
	sent, err := tcp.Turns(o, fds[1], frames)
	if err != nil {
		t.Fatal(err)
	}
	all := int64(0)
	for _, n := range sent {
		if all += n; n > tcp.TurnOut+call {
			t.Errorf("%d bytes in one turn", n)
		}
	}
	if all != int64(len(frames)*wire.HeaderSize) || o.Metrics.FramesOut.Load() != int64(len(frames)) {
		t.Errorf("%d bytes, %d frames of %d", all, o.Metrics.FramesOut.Load(), len(frames))
	}
}
