package uring

// DiscardBy makes d take its discards as a block device does, by a function. Nothing was submitted yet.
func DiscardBy(d *Device, discard func(offset, length int64) error) {
	d.block = true
	d.discards.begin(discard)
}
