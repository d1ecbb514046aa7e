package inspect_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/engine/uring"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/inspect"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/store"
)

// boot is the run of the machine that all of this happens in.
const boot = 7

// monitor is the Owner of the Device.
type monitor struct {
	mu sync.Mutex
	s  *store.Store
}

func (m *monitor) Enter() { m.mu.Lock() }
func (m *monitor) Leave() {
	if m.s != nil {
		m.s.Kick()
	}
	m.mu.Unlock()
}

type done chan error

func (d done) IODone(io *store.IO) { d <- io.Err }

// device is a file with one Replica and a few written Blocks; it stays open.
func device(t *testing.T) (path string, s *store.Store) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "device.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	m := &monitor{}
	d, err := uring.Open(path, m)
	if err != nil {
		t.Fatal(err)
	}
	o := store.Options{Owner: m, Log: slog.New(slog.DiscardHandler), Boot: boot}
	if err := store.Format(d, o, layout.Superblock{UUID: ident.UUID{1}, Pool: "fast", Salt: 3}); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(d, o); err != nil {
		t.Fatal(err)
	}
	in := func(f func(end done)) {
		t.Helper()
		end := make(done, 1)
		m.Enter()
		m.s = s
		f(end)
		m.Leave()
		if err := <-end; err != nil {
			t.Fatal(err)
		}
	}
	var h store.Handle
	in(func(end done) {
		key := ident.ReplicaKey{Shard: ident.ShardID{Volume: ident.UUID{9}, Index: 4}, Replica: 2}
		s.CreateReplica(key, 8<<20, func(made store.Handle, err error) { h = made; end <- err })
	})
	in(func(end done) {
		r := membership.Record{
			Epoch: 5, Primary: 2, InSync: []ident.ReplicaID{1, 2},
			Replicas: []membership.Replica{{ID: 1, Address: "a:1"}, {ID: 2, Address: "b:2"}},
		}
		s.SetRecord(h, r, func(err error) { end <- err })
	})
	b := buffer.New(1 << 20).Get(8192)
	copy(b.Bytes(), "written")
	in(func(end done) {
		s.Submit(&store.IO{Op: store.OpWrite, Replica: h, Offset: 1 << 20, Length: 8192, Buf: b, Seq: 1, Epoch: 5, Done: end})
	})
	return path, s
}

func closed(t *testing.T) string {
	t.Helper()
	path, s := device(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// patch changes bytes of the file.
func patch(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADeviceInOrderIsShownAndPassesTheCheck(t *testing.T) {
	var out bytes.Buffer
	if err := inspect.Check(&out, closed(t), boot); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"pool        fast", "shutdown    in order", "epoch 5, primary 2, in sync 1 2", "replica 1 on device", "/4#2",
		"2 blocks verified, 0 breaches",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestARottenBlockFailsTheCheck(t *testing.T) {
	path := closed(t)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(content, []byte("written"))
	patch(t, path, int64(at), []byte("W"))
	var out bytes.Buffer
	if err := inspect.Check(&out, path, boot); !errors.Is(err, inspect.ErrBroken) {
		t.Fatalf("got %v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), "checksum of the block at 1048576") {
		t.Errorf("the block is not named:\n%s", &out)
	}
}

func TestADamagedSuperblockCopyFailsTheCheckAndIsShown(t *testing.T) {
	path := closed(t)
	patch(t, path, layout.SuperblockCopies()[1]+100, []byte{1, 2, 3})
	var out bytes.Buffer
	if err := inspect.Check(&out, path, boot); !errors.Is(err, inspect.ErrBroken) {
		t.Fatalf("got %v\n%s", err, &out)
	}
	out.Reset()
	if err := inspect.Show(&out, path, boot); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "copy 1 is damaged") {
		t.Errorf("not shown:\n%s", &out)
	}
}

func TestEachBreachOfAnInvariantFailsTheCheck(t *testing.T) {
	path := closed(t)
	for want, change := range map[string]func(*store.Recovered){
		"a checkpoint that may be the newest": func(r *store.Recovered) { r.Fallback = true },
		"1 blocks hold neither":               func(r *store.Recovered) { r.Damaged = make([]store.Damaged, 1) },
		"lies beyond the end of":              func(r *store.Recovered) { r.Table.Replica(0).Size = 1 << 20 },
		"is not where":                        func(r *store.Recovered) { r.Table.Allocate(0, 1) },
		"8388608 bytes are promised to replicas, 8388609 are counted": func(r *store.Recovered) {
			r.Table.Reserved++
		},
		"2 extents are owned, 1 counted as used": func(r *store.Recovered) { r.Table.Replica(0).Used++ },
		"cannot be read": func(*store.Recovered) {
			if err := os.Truncate(path, 1<<20); err != nil {
				t.Error(err)
			}
		},
	} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = inspect.CheckChanged(&out, path, boot, change)
		if !errors.Is(err, inspect.ErrBroken) || !strings.Contains(out.String(), "BROKEN ") ||
			!strings.Contains(out.String(), want) {
			t.Errorf("%s: got %v\n%s", want, err, &out)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALossOfPowerIsShown(t *testing.T) {
	path, s := device(t)
	defer s.Close()
	left := filepath.Join(t.TempDir(), "left.img")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for run, want := range map[uint64]string{boot: "without closing", boot + 1: "power was lost"} {
		var out bytes.Buffer
		if err := inspect.Check(&out, left, run); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("run %d: %v\n%s", run, err, &out)
		}
	}
}

func TestADeviceInUseOrOfOthersIsRefused(t *testing.T) {
	path, s := device(t)
	if err := inspect.Show(&bytes.Buffer{}, path, boot); err == nil {
		t.Error("read a device in use")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.img")
	if err := os.WriteFile(other, bytes.Repeat([]byte("other"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := inspect.Show(&bytes.Buffer{}, other, boot); !errors.Is(err, layout.ErrNotOurs) {
		t.Errorf("got %v", err)
	}
}
