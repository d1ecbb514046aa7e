package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/store"
)

const (
	// poolSize is a storenode's memory for data on its way, in bytes.
	poolSize = 128 << 20
	// maxUnsaid bounds what a storenode has to say and has not said yet.
	maxUnsaid = 1 << 10
)

// What a storenode and the keeper of its Records say to each other, by the process's input and output.
type (
	// hello is what a storenode says first.
	hello struct {
		Address string
		Device  ident.UUID
	}
	// proposal is a Record that a storenode asks for, or, on the way back, the one in force.
	proposal struct {
		Shard  ident.ShardID
		Record membership.Record
	}
	// order is what a storenode is told; each part may be missing. Ask wants an answer when the rest is done.
	order struct {
		Desired []shard.Desired
		Map     *shard.VolumeMap
		Decided *proposal
		Ask     bool
	}
	// answer to an order that Asks.
	answer struct {
		// Rebuilt is how many bytes were copied from here to Replicas that join, Rate how many may be now in a second.
		Rebuilt uint64
		Rate    int64
	}
	// said is one of what a storenode says after its hello; Silent are the Primaries it does not hear.
	said struct {
		Proposal *proposal
		Answer   *answer
		Silent   []string
	}
)

// reporter is a Host's way to the keeper of membership records, which is the parent process. It implements
// shard.Authority; what it is told waits in unsaid, so that nothing blocks.
type reporter struct {
	unsaid chan said
	log    *slog.Logger
}

func (r *reporter) Propose(id ident.ShardID, next membership.Record) {
	r.say(said{Proposal: &proposal{id, next}})
}

func (r *reporter) Unreachable(addresses []string) { r.say(said{Silent: addresses}) }

func (r *reporter) say(s said) {
	select {
	case r.unsaid <- s:
	default:
		r.log.Error("The keeper of records does not listen")
	}
}

// run says what there is to say until ctx ends, or nobody listens.
func (r *reporter) run(ctx context.Context, out *gob.Encoder) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-r.unsaid:
			if err := out.Encode(s); err != nil {
				r.log.Error("Could not tell the keeper of records", "error", err)
				return
			}
		}
	}
}

// serveStorenode is a child process: one storenode on the file at path, led by orders on in. An empty file is made a
// Device first.
func serveStorenode(ctx context.Context, path string, in io.Reader, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	keeper := &reporter{unsaid: make(chan said, maxUnsaid), log: log}
	s, err := process.Start(ctx, process.Config{
		Name: path, Address: "127.0.0.1:0", Incarnation: process.Incarnation(), Authority: keeper,
		Pool: buffer.New(poolSize), Log: log,
	})
	if err != nil {
		return err
	}
	if err := process.Format(s.Host, path, "bench", 1, log); err != nil && !errors.Is(err, store.ErrNotEmpty) {
		return err
	}
	device, err := process.Serve(s.Host, path, 1, 1, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	answers := gob.NewEncoder(out)
	if err = answers.Encode(hello{s.Address(), device.Device()}); err == nil {
		go keeper.run(ctx, answers)
		err = obey(s.Host, keeper, in)
	}
	cancel()
	s.Stop()
	return errors.Join(err, <-served, s.Host.RemoveDevice(device.Device()), device.Close())
}

// obey carries out orders until there are no more.
func obey(h *shard.Host, keeper *reporter, in io.Reader) error {
	orders := gob.NewDecoder(bufio.NewReader(in))
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := o.apply(h); err != nil {
			return err
		}
		if o.Ask {
			keeper.say(said{Answer: &answer{Rebuilt: h.Counts().RebuiltBytes, Rate: h.RebuildRate()}})
		}
	}
}

func (o *order) apply(h *shard.Host) error {
	for _, d := range o.Desired {
		// A newer Record may have come from another storenode while this one was on its way.
		if err := h.Apply(d); err != nil && !errors.Is(err, shard.ErrStaleRecord) {
			return err
		}
	}
	if o.Map != nil {
		h.Publish(*o.Map)
	}
	if o.Decided != nil {
		h.Decided(o.Decided.Shard, o.Decided.Record)
	}
	return nil
}
