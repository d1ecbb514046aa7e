package setup

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shale-storage/shale/storenode/agent"
	"github.com/shale-storage/shale/storenode/buffer"
	"github.com/shale-storage/shale/storenode/inspect"
	"github.com/shale-storage/shale/storenode/layout"
	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
	"github.com/shale-storage/shale/storenode/shard/shardtest"
	"github.com/shale-storage/shale/storenode/store"
)

const fileSize = 128 << 20

// file makes a sparse file with text at its start.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ssd.img")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Truncate(path, fileSize)); err != nil {
		t.Fatal(err)
	}
	return path
}

// opened is a Server that is not serving, and its Devices.
func opened(t *testing.T) (*process.Server, *devices) {
	t.Helper()
	register := shardtest.New()
	log := slog.New(slog.DiscardHandler)
	s, err := process.Start(t.Context(), process.Config{
		Name: "n", Address: "127.0.0.1:0", Incarnation: process.Incarnation(), Authority: register.Authority(),
		Pool: buffer.New(8 << 20), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &devices{host: s.Host, boot: 1, log: log}
	t.Cleanup(func() {
		s.Stop()
		if err := d.close(); err != nil {
			t.Error(err)
		}
		register.Close()
	})
	return s, d
}

func content(t *testing.T, d *devices, path string) agent.Found {
	t.Helper()
	found, err := d.Probe(path)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAnEmptyDeviceIsFormattedServedAndThenTaken(t *testing.T) {
	_, d := opened(t)
	path := file(t, "")
	if found := content(t, d, path); found.Content != agent.ContentEmpty || found.Size != fileSize {
		t.Fatalf("an empty file: %+v", found)
	}
	if err := d.Format(path, "fast"); err != nil {
		t.Fatal(err)
	}
	found := content(t, d, path)
	if found.Content != agent.ContentOurs || found.Pool != "fast" || found.UUID.IsZero() {
		t.Fatalf("formatted: %+v", found)
	}
	if err := d.Format(path, "fast"); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("formatting again: %v", err)
	}
	id, err := d.Serve(path, 100)
	if err != nil || id != found.UUID {
		t.Fatalf("serve: %v, %v", id, err)
	}
	if u, err := d.Usage(id); err != nil || u.Capacity == 0 || u.Used != 0 || u.Replicas != 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	if found := content(t, d, path); found.Content != agent.ContentForeign || !strings.Contains(found.What, "in use") {
		t.Errorf("a served device: %+v", found)
	}
	if _, err := process.Serve(d.host, path, 1, 1, d.log); err == nil {
		t.Error("a device was opened twice")
	}
}

// Opening a Device writes to it, and what looks like a copy may be the same SSD by another path.
func TestCopyOfADeviceInServiceIsNotOpened(t *testing.T) {
	s, d := opened(t)
	path, clone := file(t, ""), file(t, "")
	if err := d.Format(path, "fast"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err := errors.Join(err, os.WriteFile(clone, before, 0o600)); err != nil {
		t.Fatal(err)
	}
	id, err := d.Serve(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Serve(clone, 100); !errors.Is(err, shard.ErrInService) {
		t.Errorf("the copy: %v", err)
	}
	if after, err := os.ReadFile(clone); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the copy was written to, %v", err)
	}
	if _, err := process.Serve(s.Host, clone, 1, 1, d.log); !errors.Is(err, shard.ErrInService) {
		t.Errorf("the copy, opened by somebody else: %v", err)
	}
	if err := d.Release(id); err != nil {
		t.Fatal(err)
	}
	if again, err := d.Serve(clone, 100); err != nil || again != id {
		t.Errorf("the copy when the device is out of service: %v", err)
	}
}

func TestDeviceThatIsPulledIsReleasedAndServedAgainElsewhere(t *testing.T) {
	_, d := opened(t)
	path := file(t, "")
	if err := d.Format(path, "fast"); err != nil {
		t.Fatal(err)
	}
	id, err := d.Serve(path, 100)
	if err != nil || !d.IsThere(id) {
		t.Fatalf("serve: %v, there: %v", err, d.IsThere(id))
	}
	slot := filepath.Join(t.TempDir(), "other.img")
	if err := errors.Join(os.Rename(path, slot), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if d.IsThere(id) {
		t.Error("another file at its path is taken for it")
	}
	if err := errors.Join(os.Remove(path), d.Release(id)); err != nil || d.IsThere(id) {
		t.Fatalf("release: %v, there: %v", err, d.IsThere(id))
	}
	if again, err := d.Serve(slot, 100); err != nil || again != id || !d.IsThere(id) {
		t.Errorf("serve again: %v, %v", again, err)
	}
}

func TestSSDThatWasPluggedInAnewLostItsPower(t *testing.T) {
	sys := t.TempDir()
	sequence := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(sys, "diskseq"), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := since(sys, 7); got != 7 {
		t.Errorf("without a sequence it has had power since %d, want the machine's 7", got)
	}
	sequence("11")
	before, partition := since(sys, 7), filepath.Join(sys, "sda1")
	if err := os.Mkdir(partition, 0o700); err != nil {
		t.Fatal(err)
	}
	if before == 7 || since(sys, 7) != before || since(partition, 7) != before || since(sys, 8) == before {
		t.Error("a disk and its partitions have power as long as neither the machine nor the disk is another")
	}
	sequence("12")
	if since(sys, 7) == before {
		t.Error("a disk that was pulled and put back counts as if it had kept its power")
	}
	if path := file(t, ""); powered(path, 7) != 7 {
		t.Error("a file has another power than its machine")
	}
}

func TestForeignDevicesAreNotTouched(t *testing.T) {
	_, d := opened(t)
	for name, path := range map[string]string{
		"somebody's data": file(t, "a photo album"),
		"a filesystem":    file(t, "XFSB"),
		"no device":       "/dev/null",
	} {
		found := content(t, d, path)
		if found.Content != agent.ContentForeign || found.What == "" {
			t.Errorf("%s: %+v", name, found)
		}
		if err := d.Format(path, "fast"); !errors.Is(err, store.ErrNotEmpty) {
			t.Errorf("%s was formatted: %v", name, err)
		}
	}
	if _, err := d.Probe(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing path was probed")
	}
}

func TestDeviceWithADamagedSuperblockIsNotTouched(t *testing.T) {
	_, d := opened(t)
	path := file(t, "")
	if err := d.Format(path, "fast"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range layout.SuperblockCopies() {
		if _, err := f.WriteAt([]byte("damage"), at+20); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(path)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if found := content(t, d, path); found.Content != agent.ContentCorrupt || found.What == "" {
		t.Errorf("it is taken for %+v", found)
	}
	if err := d.Format(path, "fast"); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("it was formatted: %v", err)
	}
	if _, err := d.Serve(path, 100); err == nil {
		t.Error("it was served")
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it was written to, %v", err)
	}
}

// TestWhatTheKernelShowsOnADiskIsNamed has a directory for sysfs.
func TestWhatTheKernelShowsOnADiskIsNamed(t *testing.T) {
	sys := t.TempDir()
	add := func(parts ...string) {
		t.Helper()
		path := filepath.Join(append([]string{sys}, parts...)...)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("1\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	add("queue", "rotational")
	if err := os.Mkdir(filepath.Join(sys, "holders"), 0o700); err != nil {
		t.Fatal(err)
	}
	if what := users(sys); what != "" {
		t.Errorf("a disk that nobody uses is %q", what)
	}
	add("holders", "dm-0")
	add("holders", "md127")
	if what := users(sys); what != "a part of dm-0, md127" {
		t.Errorf("a part of two others is %q", what)
	}
	add("sda1", "partition")
	add("sda2", "partition")
	if what := users(sys); what != "2 partitions" {
		t.Errorf("a disk with partitions is %q", what)
	}
}

func TestTheCommandsForADeviceSayWhatIsWrongWithIt(t *testing.T) {
	_, d := opened(t)
	path, foreign := file(t, ""), file(t, "somebody's data")
	if err := d.Format(path, "fast"); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		root := New(Options{})
		root.SetArgs(args)
		root.SetOut(&out)
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	says := func(want string, is error, args ...string) {
		t.Helper()
		if out, err := run(args...); !errors.Is(err, is) || !strings.Contains(out, want) {
			t.Errorf("%q: got %v, want %v and %q in\n%s", args, err, is, want, out)
		}
	}
	says("pool        fast", nil, "inspect", path)
	says("0 breaches", nil, "check", path)
	says("", layout.ErrNotOurs, "inspect", foreign)
	says("", layout.ErrNotOurs, "check", foreign)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{1, 2, 3}, layout.SuperblockCopies()[1]+100)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	says("copy 1 is damaged", nil, "inspect", path)
	says("BROKEN      superblock copy 1", inspect.ErrBroken, "check", path)
}

func TestEachMetricIsExplained(t *testing.T) {
	s, d := opened(t)
	path := file(t, "")
	if err := d.Format(path, "fast"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Serve(path, 100); err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewRegistry()
	registerMetrics(r, s, d)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/operate/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		if ours++; !strings.Contains(string(text), "`"+f.GetName()+"`") {
			t.Errorf("%s is not explained", f.GetName())
		}
	}
	if ours < 10 {
		t.Errorf("only %d metrics", ours)
	}
}

// TestTheChartsFlagsExist reads the chart, so that neither changes without the other.
func TestTheChartsFlagsExist(t *testing.T) {
	text, err := os.ReadFile("../../charts/shale/templates/storenode.yaml")
	if err != nil {
		t.Fatal(err)
	}
	run, _, err := New(Options{}).Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^ +- --([a-z-]+)=`).FindAllStringSubmatch(string(text), -1)
	for _, m := range found {
		if run.Flags().Lookup(m[1]) == nil {
			t.Errorf("the chart passes --%s, which storenode run does not know", m[1])
		}
	}
	if len(found) < 5 {
		t.Errorf("found only %d flags in the chart", len(found))
	}
}

func TestAddressThatTheNodeHasNoMoreIsTold(t *testing.T) {
	for address, is := range map[string]bool{"127.0.0.1": true, "::1": true, "0.0.0.0": true, "192.0.2.1": false} {
		if err := onThisMachine(address); (err == nil) != is {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A Replica that a person gave up, and that came back, is kept until the person says otherwise.
func TestReadinessWaitsForReplicasThatAreGoingToBeInSync(t *testing.T) {
	for story, c := range map[string]struct {
		status shard.Status
		ready  bool
	}{
		"in sync":    {shard.Status{State: shard.StateInSync, Listed: true}, true},
		"stale":      {shard.Status{State: shard.StateStale, Listed: true}, false},
		"rebuilding": {shard.Status{State: shard.StateRebuilding, Listed: true}, false},
		"given up":   {shard.Status{State: shard.StateStale}, true},
	} {
		if err := inSync([]shard.Status{c.status}); (err == nil) != c.ready {
			t.Errorf("%s: %v", story, err)
		}
	}
}

// Until a Device is open nothing is known of its Replicas, and the moment it is they are behind.
func TestReadinessWaitsForDevicesAndThenForTheirReplicas(t *testing.T) {
	var known []shard.Status
	statuses := func() []shard.Status { return known }
	opening := func(context.Context) error { return os.ErrDeadlineExceeded }
	opened := func(context.Context) error {
		known = []shard.Status{{State: shard.StateStale, Listed: true}}
		return nil
	}
	if ready(t.Context(), opening, statuses) == nil {
		t.Error("it is ready while a device is being opened")
	}
	if ready(t.Context(), opened, statuses) == nil {
		t.Error("it is ready though replicas of a device that has just been opened are behind")
	}
	known = nil
	nothing := func(context.Context) error { return nil }
	if err := ready(t.Context(), nothing, statuses); err != nil {
		t.Errorf("everything is in sync, and it says %v", err)
	}
}

func TestHeapMayGrowNearlyToWhatTheProcessMayUse(t *testing.T) {
	const gib = 1 << 30
	for story, c := range map[string]struct {
		own, outer string
		want       int
	}{
		"no limit":                   {"max", "max", machineMemory()},
		"a limit of its own":         {"268435456\n", "max", 256 << 20},
		"a lower one of those above": {"268435456", "134217728", 128 << 20},
		"more than there is":         {"1125899906842624", "max", machineMemory()},
		"nonsense":                   {"", "-", machineMemory()},
	} {
		root := t.TempDir()
		outer := filepath.Join(root, "sys/fs/cgroup/pods")
		err := errors.Join(
			os.MkdirAll(filepath.Join(outer, "own"), 0o700), os.MkdirAll(filepath.Join(root, "proc/self"), 0o700),
			os.WriteFile(filepath.Join(root, "proc/self/cgroup"), []byte("1:cpu:/x\n0::/pods/own\n"), 0o600),
			os.WriteFile(filepath.Join(outer, "own/memory.max"), []byte(c.own), 0o600),
			os.WriteFile(filepath.Join(outer, "memory.max"), []byte(c.outer), 0o600))
		if err != nil {
			t.Fatal(err)
		}
		if got := usableMemory(root); got != c.want {
			t.Errorf("%s: %d bytes, want %d", story, got, c.want)
		}
	}
	// 16 TiB of data on a machine of 64 GiB: 16 GiB are needed, and a collection needs some more.
	if got := heapLimit(64*gib, poolMost); got < 50*gib || got > 60*gib {
		t.Errorf("the heap is held at %d bytes", got)
	}
	if got := heapLimit(0, poolMost); got != heapLeast {
		t.Errorf("%d bytes when nothing is known", got)
	}
}

func TestMemoryForDataStaysWithinItsBounds(t *testing.T) {
	if got, err := poolSize(0); got < poolLeast || got > poolMost || err != nil {
		t.Errorf("a share of the machine: %d bytes, %v", got, err)
	}
	if got, err := poolSize(7); got != 7<<20 || err != nil {
		t.Errorf("7 MiB: %d bytes, %v", got, err)
	}
	for _, mib := range []int{-1, 1, 3} {
		if _, err := poolSize(mib); err == nil || !strings.Contains(err.Error(), "--memory-mib") {
			t.Errorf("%d MiB: %v, want an error that names the flag", mib, err)
		}
	}
}

// The one that hangs is asked first.
func TestADeviceThatHangsKeepsNoOtherFromBeingClosed(t *testing.T) {
	hang, closed := make(chan struct{}), make(chan struct{})
	defer close(hang)
	err := closeAll(500*time.Millisecond, []func() error{
		func() error { <-hang; return nil },
		func() error { close(closed); return os.ErrInvalid },
	})
	if !errors.Is(err, errNotClosed) || !errors.Is(err, os.ErrInvalid) {
		t.Errorf("closing says %v", err)
	}
	select {
	case <-closed:
	default:
		t.Error("the other was not closed")
	}
}
