package setup

import (
	"log/slog"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeFlusher keeps this process, and the children it starts, from waiting for the devices they serve: when memory is
// short, the kernel has who asks for some write back dirty pages first, and those of our own devices wait for us. Go
// has threads already, so all are told; later ones inherit it, and exec keeps it. Without it the process does its work
// as before: that needs CAP_SYS_RESOURCE and Linux 5.6, and a build without cgo.
func becomeFlusher(log *slog.Logger) error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0, 0)
	if errno == 0 {
		return nil
	}
	log.Warn("May wait for its own devices when memory is short", "cause", errno)
	return errno
}
