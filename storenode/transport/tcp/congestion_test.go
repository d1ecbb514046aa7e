package tcp

import (
	"net"
	"testing"
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

// congestionOf is that of a connection.
func congestionOf(t *testing.T, c *net.TCPConn) (name string) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { name = congestion(int(fd)) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBothEndsOfAConnectionWithinTheMachineAreNeverPaced(t *testing.T) {
	config, dialer := net.ListenConfig{Control: beginLocal}, net.Dialer{Control: beginLocal}
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	out, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	for _, c := range []net.Conn{out, in} {
		c := c.(*net.TCPConn)
		if got := congestionOf(t, c); got != localCongestion {
			t.Errorf("begins with %q", got)
		}
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := tune(c, raw); err != nil {
			t.Fatal(err)
		}
		if got := congestionOf(t, c); got != localCongestion {
			t.Errorf("goes on with %q", got)
		}
		if err := raw.Control(func(fd uintptr) { leadsElsewhere(int(fd)) }); err != nil {
			t.Fatal(err)
		}
		if got, want := congestionOf(t, c), hostCongestion(); got != want {
			t.Errorf("between machines it would be %q, and the host's choice is %q", got, want)
		}
	}
}
