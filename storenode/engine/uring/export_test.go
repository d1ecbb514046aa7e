package uring

import "golang.org/x/sys/unix"

// IsDirect reports whether d goes past the kernel's page cache.
func IsDirect(d *Device) bool {
	flags, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_DIRECT != 0
}

// DiscardBy makes d take its discards as a block device does, by a function. Nothing was submitted yet.
func DiscardBy(d *Device, discard func(offset, length int64) error) {
	d.block = true
	d.discards.begin(discard)
}
