package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/shale-storage/shale/storenode/client"
	"github.com/shale-storage/shale/storenode/ident"
)

// patience bounds how long the Volume may take to be served.
const patience = 20 * time.Second

// spare is how much larger a Device is than what is put on it, in bytes.
const spare = 256 << 20

// shale is a Volume on storenodes of our own.
type shale struct {
	children []*child
	keeper   *keeper
	volume   *client.Volume
}

// openShale starts the storenodes, makes the Volume and opens it as an initiator does.
func openShale(ctx context.Context, o *options, dir string) (*shale, error) {
	id := ident.UUID{0xbe, 0x9c}
	s := &shale{keeper: newKeeper(o, id)}
	for i := range o.replicas {
		path := filepath.Join(dir, fmt.Sprintf("n%d.img", i+1))
		if err := makeFile(path, o.size+spare); err != nil {
			return nil, errors.Join(err, s.close())
		}
		c, err := startChild(ctx, o, s.keeper, path)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.children = append(s.children, c)
	}
	if err := s.keeper.create(s.children); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.open(ctx, id); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *shale) open(ctx context.Context, id ident.UUID) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := client.NewProcess(client.ProcessOptions{
		Node: "bench", Memory: clientMemory, Log: log,
		AfterFunc: func(d time.Duration, f func()) client.Timer { return time.AfterFunc(d, f) },
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var addresses []string
	for _, c := range s.children {
		addresses = append(addresses, c.Address)
	}
	s.volume, err = p.Open(ctx, id.String(), 1, addresses)
	return err
}

// request ties a Request of the client to an operation. It implements client.Completer.
type request struct {
	client.Request
	s *shale
	o *operation
}

// RequestDone hands back the memory that a read came in, and goes on.
func (q *request) RequestDone(r *client.Request) {
	q.o.buf = r.Buffer // for a read it may be another, in the place of ours
	q.o.ended(r.Err)
}

// begin implements target.
func (s *shale) begin(o *operation) {
	q, ok := o.slot.(*request)
	if !ok {
		q = &request{s: s, o: o}
		o.slot = q
	}
	q.Op, q.Offset, q.Length, q.Buffer, q.Done = client.OpRead, o.offset, o.buf.Len(), o.buf, q
	if o.write {
		q.Op = client.OpWrite
	}
	s.volume.Submit(&q.Request)
}

// kick implements target.
func (s *shale) kick() { s.volume.Kick() }

// broken and failure implement target.
func (s *shale) broken() <-chan struct{} { return s.keeper.broken }
func (s *shale) failure() error          { return s.keeper.failure() }

// cpu is what all processes have used, this one included.
func (s *shale) cpu() time.Duration {
	total := cpuOf(os.Getpid())
	if s != nil {
		for _, c := range s.children {
			total += c.cpu()
		}
	}
	return total
}

func (s *shale) close() error {
	var errs []error
	if s.volume != nil {
		errs = append(errs, s.volume.Close())
	}
	for _, c := range s.children {
		s.keeper.leaves(c)
	}
	for _, c := range s.children {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}
