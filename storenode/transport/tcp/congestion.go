package tcp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// localCongestion is the control of congestion within this machine, where there is none: the plainest, which each
// kernel has. BBR, the default of many hosts, would pace what is sent by timers.
const localCongestion = "reno"

// beginLocal lets a socket begin with localCongestion: one that began with BBR is paced for ever. Those that turn out
// to lead elsewhere get the host's choice when they are set up. An error costs speed, no more.
func beginLocal(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { setCongestion(int(fd), localCongestion) })
}

// leadsElsewhere gives a connection between machines the host's choice, unless a route has chosen for it.
func leadsElsewhere(fd int) {
	if congestion(fd) == localCongestion {
		setCongestion(fd, hostCongestion())
	}
}

// hostCongestion is what new connections begin with; empty if the kernel does not tell.
func hostCongestion() string {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			continue
		}
		name := congestion(fd)
		_ = unix.Close(fd)
		return name
	}
	return ""
}

func congestion(fd int) string {
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return ""
	}
	return name
}

func setCongestion(fd int, name string) {
	if name != "" {
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	}
}

// isLocal reports whether both ends are on this machine, as far as addresses tell.
func isLocal(local, remote net.Addr) bool {
	l, okL := local.(*net.TCPAddr)
	r, okR := remote.(*net.TCPAddr)
	return okL && okR && (l.IP.Equal(r.IP) || l.IP.IsLoopback())
}
