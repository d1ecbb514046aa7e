package process

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/shale-storage/shale/storenode/engine/uring"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/store"
)

// Format makes an empty file or block device ours.
func Format(h *shard.Host, path, pool string, boot uint64, log *slog.Logger) error {
	monitor := h.Monitor()
	device, err := uring.Open(path, monitor)
	if err != nil {
		return fmt.Errorf("format device: %w", err)
	}
	super := layout.Superblock{Pool: pool, Salt: draw()}
	_, _ = rand.Read(super.UUID[:]) // never fails
	err = store.Format(device, store.Options{Owner: monitor, Log: log, Boot: boot}, super)
	return errors.Join(err, device.Close())
}

func draw() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// Serve takes a Device of ours into service.
func Serve(h *shard.Host, path string, overcommit float64, boot uint64, log *slog.Logger) (*store.Store, error) {
	monitor := h.Monitor()
	device, err := uring.Open(path, monitor)
	if err != nil {
		return nil, fmt.Errorf("serve device: %w", err)
	}
	s, err := store.Open(device, store.Options{Owner: monitor, Log: log, Boot: boot, Overcommit: overcommit})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve device: %w", err), device.Close())
	}
	if err := h.AddDevice(s); err != nil {
		return nil, errors.Join(err, device.Close()) // no last Checkpoint: it may be another's in service
	}
	return s, nil
}
