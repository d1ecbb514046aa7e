package loop

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/memory"
)

// silentBackend keeps reads to itself while it is silent.
type silentBackend struct {
	*memory.Backend

	mu     sync.Mutex
	silent bool
	kept   []*attach.Request
}

func (b *silentBackend) Submit(r *attach.Request) {
	b.mu.Lock()
	keep := b.silent && r.Op == attach.OpRead
	if keep {
		b.kept = append(b.kept, r)
	}
	b.mu.Unlock()
	if !keep {
		b.Backend.Submit(r)
	}
}

// reads is how many are kept.
func (b *silentBackend) reads() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.kept)
}

// answer does what was kept, and goes on as any other.
func (b *silentBackend) answer() {
	b.mu.Lock()
	kept := b.kept
	b.kept, b.silent = nil, false
	b.mu.Unlock()
	for _, r := range kept {
		b.Backend.Submit(r)
	}
}

// attachStuck attaches a volume whose device nobody can open until the Backend answers: a reader that was killed is
// just closing it, which waits for its read. Whatever becomes of the test, the Backend answers in the end, since a
// process that is stuck itself cannot even be killed.
func attachStuck(t *testing.T, f *Frontend, volume string) *silentBackend {
	t.Helper()
	b := &silentBackend{Backend: newMemory(t, testSize)}
	d, err := f.Attach(t.Context(), attach.Spec{Volume: volume, Backend: b})
	if err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	late := time.AfterFunc(20*time.Second, b.answer)
	t.Cleanup(func() {
		b.answer()
		late.Stop()
		asking.Wait()
		if err := f.Detach(context.Background(), volume); err != nil {
			t.Errorf("detach: %v", err)
		}
	})
	b.mu.Lock()
	b.silent = true
	b.mu.Unlock()
	reader := exec.CommandContext(t.Context(), "dd", "if="+d.Path, "of=/dev/null", "bs=4096", "count=1")
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	for b.reads() == 0 {
		time.Sleep(time.Millisecond)
	}
	_ = reader.Process.Kill()
	asking.Go(func() { _ = reader.Wait() })
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		answered := make(chan struct{})
		asking.Go(func() {
			_ = f.Confirm(volume)
			close(answered)
		})
		select {
		case <-answered:
		case <-time.After(time.Second):
			return b
		}
	}
	t.Skip("this kernel opens a device that somebody is just closing")
	return nil
}

func TestADeviceThatCannotBeOpenedKeepsNobodyWaiting(t *testing.T) {
	f := newFrontend(t)
	f.options.LinkDir = "" // it is in the state directory, where CleanUp takes it for a mount point
	b := attachStuck(t, f, "stuck")
	attachMemory(t, f, "left")
	held, ok := f.Held("stuck")
	if !ok {
		t.Skip("this kernel does not send requests again")
	}
	successor, err := New(f.options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := successor.Adopt("stuck", held); err != nil || b.reads() == 0 {
		t.Errorf("adopt: %v, with %d reads waiting", err, b.reads())
	}
	if err := successor.CleanUp(t.Context()); err != nil || b.reads() == 0 {
		t.Errorf("clean up beside it: %v, with %d reads waiting", err, b.reads())
	}
	wantBound(t, f, "left", false)
	// Nor does one that was not adopted, and it is not cleared later.
	attachMemory(t, f, "left-too")
	stranger, err := New(f.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = stranger.CleanUp(ctx)
	if err == nil || !strings.Contains(err.Error(), "the kernel says nothing") || b.reads() == 0 {
		t.Errorf("clean up: %v, with %d reads waiting", err, b.reads())
	}
	wantBound(t, f, "left-too", false)
	b.answer()
	for range 20 {
		wantBound(t, f, "stuck", true)
		time.Sleep(10 * time.Millisecond)
	}
}

func TestCleanUpClearsNothingAfterItHasReturned(t *testing.T) {
	f := newFrontend(t)
	attachMemory(t, f, "new")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.cleanDevice(ctx, f.get("new").device); err == nil {
		t.Error("it cleaned up")
	}
	wantBound(t, f, "new", true)
}

func wantBound(t *testing.T, f *Frontend, volume string, want bool) {
	t.Helper()
	a := f.get(volume)
	if bound, err := a.device.isBoundAs(a.name); bound != want || err != nil {
		t.Errorf("%s of %s is bound: %v, %v, want %v", a.device.path(), volume, bound, err, want)
	}
}

func TestOnlyFilesOfExportsAreTakenForExports(t *testing.T) {
	for file, want := range map[string]bool{
		"/var/lib/shale/initiator/pvc-1/volume\n": true,
		"/volume (deleted)\n":                     true,
		"/volume\n":                               true,
		"/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/pvc-1/dev/0d2c\n": false,
		"/var/lib/kubelet/pods/0d2c/volumes/kubernetes.io~csi/pvc-1/mount/disk\n":   false,
		"": false,
	} {
		if got := isExport(file); got != want {
			t.Errorf("%q: %v", file, got)
		}
	}
}
