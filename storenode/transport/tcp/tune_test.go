package tcp

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyConnectionsWithinTheMachineAreLocal(t *testing.T) {
	at := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	for _, c := range []struct {
		local, remote string
		want          bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.2", true},
		{"::1", "::1", true},
		{"10.0.0.7", "10.0.0.7", true},
		{"::ffff:10.0.0.7", "10.0.0.7", true},
		{"10.0.0.7", "10.0.0.8", false},
		{"fd00::1", "fd00::2", false},
	} {
		if got := isLocal(at(c.local, 1), at(c.remote, 2)); got != c.want {
			t.Errorf("%s to %s: %v", c.local, c.remote, got)
		}
	}
	if isLocal(&net.UnixAddr{}, at("::1", 1)) {
		t.Error("something else than TCP is local")
	}
}

func TestNothingIsPacedWithinTheMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends at once
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // ends at once
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := tune(c.(*net.TCPConn), raw); err != nil {
		t.Fatal(err)
	}
	var control string
	err = raw.Control(func(fd uintptr) {
		control, _ = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	if err != nil || control != localCongestion {
		t.Errorf("congestion control %q, want %q; error %v", control, localCongestion, err)
	}
}
