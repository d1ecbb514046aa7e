package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/loop"
	"github.com/shale-storage/shale/csi/attach/volume"
	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/client"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/shard/shardtest"
	"github.com/shale-storage/shale/storenode/store"
)

const (
	deviceSize = 512 << 20
	shardSize  = 32 << 20
	// patience bounds what a test waits for.
	patience = time.Minute
)

var theVolume = ident.UUID{0xab, 2}

func log() *slog.Logger {
	level := slog.LevelWarn
	if os.Getenv("SHALE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// node is one storenode.
type node struct {
	t             testing.TB
	path, address string
	register      *shardtest.Register
	authority     *shardtest.Authority
	server        *process.Server
	store         *store.Store
	stop          context.CancelFunc
	served        sync.WaitGroup
}

func (n *node) start() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.authority = cancel, n.register.Authority()
	var err error
	n.server, err = process.Start(ctx, process.Config{
		Name: filepath.Base(n.path), Address: n.address, Incarnation: process.Incarnation(), Authority: n.authority,
		Pool: buffer.New(128 << 20), Log: log(),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.address = n.server.Address()
	if _, err := os.Stat(n.path); errors.Is(err, os.ErrNotExist) {
		err := errors.Join(os.WriteFile(n.path, nil, 0o600), os.Truncate(n.path, deviceSize))
		if err := errors.Join(err, process.Format(n.server.Host, n.path, "test", 1, log())); err != nil {
			n.t.Fatal(err)
		}
	}
	if n.store, err = process.Serve(n.server.Host, n.path, 1, 1, log()); err != nil {
		n.t.Fatal(err)
	}
	n.served.Go(func() { _ = n.server.Serve(ctx) })
	n.authority.Join(n.address, n.server.Host)
}

// end cuts all connections at once, as the end of a process would.
func (n *node) end() {
	n.t.Helper()
	n.authority.Leave()
	n.stop()
	n.server.Stop()
	n.served.Wait()
	n.stop = nil
	if err := errors.Join(n.server.Host.RemoveDevice(n.store.Device()), n.store.Close()); err != nil {
		n.t.Error(err)
	}
}

// cluster is three storenodes with one Volume.
type cluster struct {
	t        testing.TB
	register *shardtest.Register
	nodes    []*node
	shards   int
}

func newCluster(tb testing.TB, shards int) *cluster {
	tb.Helper()
	c := &cluster{t: tb, register: shardtest.New(), shards: shards}
	dir := tb.TempDir()
	var replicas []membership.Replica
	for i := range 3 {
		n := &node{
			t: tb, path: filepath.Join(dir, fmt.Sprintf("n%d.img", i+1)), address: "127.0.0.1:0", register: c.register,
		}
		n.start()
		c.nodes = append(c.nodes, n)
		replicas = append(replicas, membership.Replica{
			ID: ident.ReplicaID(i + 1), Device: n.store.Device(), Address: n.address,
		})
	}
	tb.Cleanup(func() {
		for _, n := range c.nodes {
			if n.stop != nil {
				n.end()
			}
		}
		c.register.Close()
	})
	m := shard.VolumeMap{Volume: theVolume, Size: int64(shards) * shardSize, ShardSize: shardSize, Generation: 1}
	if err := c.register.CreateVolume(m, replicas); err != nil {
		tb.Fatal(err)
	}
	return c
}

// whole says that all Replicas of all Shards are InSync.
func (c *cluster) whole() bool {
	for i := range c.shards {
		r := c.register.Record(ident.ShardID{Volume: theVolume, Index: uint32(i)})
		if len(r.InSync) < len(r.Replicas) {
			return false
		}
	}
	return true
}

// addresses of the storenodes.
func (c *cluster) addresses() []string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, n.address)
	}
	return all
}

// request is that of an attachment.
func (c *cluster) request(generation uint64) api.AttachRequest {
	return api.AttachRequest{
		Volume: "stack", ID: theVolume.String(), SizeBytes: int64(c.shards) * shardSize,
		Generation: generation, Addresses: c.addresses(),
	}
}

// newProcess is the client's side of an initiator.
func newProcess() (*client.Process, error) {
	return client.NewProcess(client.ProcessOptions{
		Node: "here", Memory: 64 << 20, Log: log(),
		AfterFunc: func(d time.Duration, f func()) client.Timer { return time.AfterFunc(d, f) },
	})
}

// open opens the Volume as the initiator does.
func (c *cluster) open(generation uint64) (*client.Volume, *client.Metrics) {
	c.t.Helper()
	p, err := newProcess()
	if err != nil {
		c.t.Fatal(err)
	}
	v, err := p.Open(c.t.Context(), theVolume.String(), generation, c.addresses())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = v.Close() })
	return v, p.Metrics()
}

// attach makes a loop device of the Volume.
func (c *cluster) attach() (device string, m *client.Metrics) {
	c.t.Helper()
	f, err := loop.New(loop.Options{StateDir: c.t.TempDir(), Log: log()})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := f.Probe(); err != nil || os.Geteuid() != 0 {
		c.t.Skipf("needs root, /dev/fuse and loop devices: %v", err)
	}
	v, m := c.open(1)
	d, err := f.Attach(c.t.Context(), attach.Spec{Volume: "stack", Backend: volume.New(v)})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f.Detach(ctx, "stack"); err != nil {
			c.t.Errorf("detach: %v", err)
		}
	})
	return d.Path, m
}

// until waits for what others bring about.
func (c *cluster) until(what string, is func() bool) {
	c.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
