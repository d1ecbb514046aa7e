package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
)

// poolSize is a storenode's memory for data on its way, in bytes.
const poolSize = 128 << 20

// hello is what a storenode says first; order is what it is told then.
type (
	hello struct {
		Address string
		Device  ident.UUID
	}
	order struct {
		// Serve is false while Replicas are to be made only.
		Serve           bool
		Volume          ident.UUID
		Size, ShardSize int64
		Replicas        []membership.Replica
	}
)

// constant stands for the keeper of membership records: nothing may change while it is measured.
type constant struct{ log *slog.Logger }

func (c constant) Propose(id ident.ShardID, next membership.Record) {
	c.log.Error("Membership would change, the figures are worthless",
		"shard", id, "epoch", next.Epoch, "inSync", next.InSync)
}

func (c constant) Unreachable(addresses []string) {
	if len(addresses) > 0 {
		c.log.Error("A storenode is silent, the figures are worthless", "addresses", addresses)
	}
}

// serveStorenode is a child process: one storenode on the file at path, led by orders on in.
func serveStorenode(ctx context.Context, path string, in io.Reader, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := process.Start(ctx, process.Config{
		Name: path, Address: "127.0.0.1:0", Incarnation: process.Incarnation(), Authority: constant{log},
		Pool: buffer.New(poolSize), Log: log,
	})
	if err != nil {
		return err
	}
	if err := process.Format(s.Host, path, "bench", 1, log); err != nil {
		return err
	}
	device, err := process.Serve(s.Host, path, 1, 1, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	err = obey(s, device.Device(), in, out)
	cancel()
	s.Stop()
	return errors.Join(err, <-served, s.Host.RemoveDevice(device.Device()), device.Close())
}

// obey carries out orders until there are no more.
func obey(s *process.Server, device ident.UUID, in io.Reader, out io.Writer) error {
	answer, orders := gob.NewEncoder(out), gob.NewDecoder(bufio.NewReader(in))
	if err := answer.Encode(hello{s.Address(), device}); err != nil {
		return err
	}
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := o.apply(s.Host); err != nil {
			return err
		}
		if err := answer.Encode(o.Serve); err != nil {
			return err
		}
	}
}

func (o *order) apply(h *shard.Host) error {
	m := shard.VolumeMap{Volume: o.Volume, Size: o.Size, ShardSize: o.ShardSize, Generation: 1}
	for i := range int((o.Size + o.ShardSize - 1) / o.ShardSize) {
		r := membership.Record{Replicas: o.Replicas}
		if o.Serve {
			r.Epoch, r.Primary = 1, o.Replicas[i%len(o.Replicas)].ID
			for _, c := range o.Replicas {
				r.InSync = append(r.InSync, c.ID)
			}
		}
		m.Shards = append(m.Shards, r)
		d := shard.Desired{
			Shard: ident.ShardID{Volume: o.Volume, Index: uint32(i)}, Record: r, Generation: 1, MinInSync: 1,
			Size: min(o.ShardSize, o.Size-int64(i)*o.ShardSize),
		}
		if err := h.Apply(d); err != nil {
			return err
		}
	}
	if o.Serve {
		h.Publish(m)
	}
	return nil
}

// child is a storenode's process, seen from here.
type child struct {
	hello
	command *exec.Cmd
	input   io.WriteCloser
	orders  *gob.Encoder
	answers *gob.Decoder
}

func startChild(ctx context.Context, o *options, path string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	c := &child{command: exec.CommandContext(ctx, self, "-storenode", path, "-profile", o.profile)}
	c.command.Stderr = os.Stderr
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.input, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	c.orders, c.answers = gob.NewEncoder(c.input), gob.NewDecoder(out)
	if err := c.command.Start(); err != nil {
		return nil, fmt.Errorf("start storenode: %w", err)
	}
	if err := c.answers.Decode(&c.hello); err != nil {
		return nil, fmt.Errorf("start storenode on %s: %w", path, err)
	}
	return c, nil
}

func (c *child) order(o order) error {
	if err := c.orders.Encode(o); err != nil {
		return fmt.Errorf("order storenode: %w", err)
	}
	var done bool
	if err := c.answers.Decode(&done); err != nil {
		return fmt.Errorf("order storenode: %w", err)
	}
	return nil
}

// stop ends the process in order.
func (c *child) stop() error {
	return errors.Join(c.input.Close(), c.command.Wait())
}

// cpu is the time that a process has used.
func (c *child) cpu() time.Duration { return cpuOf(c.command.Process.Pid) }
