package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/loop"
	"github.com/shale-storage/shale/csi/attach/memory"
	"github.com/shale-storage/shale/csi/initiator"
	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/csi/mounter"
)

const deviceSize = 512 << 20

// kept is a Volume whose bytes outlive its attachment.
type kept struct {
	*memory.Backend

	// failing, if not nil and true, fails all that is written.
	failing *atomic.Bool
}

func (kept) Close() error { return nil }

func (k kept) Submit(r *attach.Request) {
	if r.Op != attach.OpRead && k.failing != nil && k.failing.Load() {
		r.Err = errors.New("too few replicas in sync")
		r.Done.RequestDone(r)
		return
	}
	k.Backend.Submit(r)
}

// newRealNode is the node service over a real initiator on its socket, real devices and real mounts; only the Volume is
// memory.
func newRealNode(t *testing.T) (n *Node, failing *atomic.Bool) {
	t.Helper()
	failing = &atomic.Bool{}
	if os.Geteuid() != 0 {
		t.Skip("devices and mounts need root")
	}
	log := slog.New(slog.DiscardHandler)
	frontend, err := loop.New(loop.Options{StateDir: filepath.Join(t.TempDir(), "state"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := frontend.Probe(); err != nil {
		t.Skipf("no loop frontend on this machine: %v", err)
	}
	backend, err := memory.New(deviceSize)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "initiator.sock")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- initiator.Run(ctx, initiator.Options{
			Socket: socket, Node: "n1", Frontends: []attach.Frontend{frontend}, MaxVolumes: 4, Log: log,
			Open: func(context.Context, api.AttachRequest) (initiator.Volume, error) { return kept{backend, failing}, nil },
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("initiator: %v", err)
		}
		_ = backend.Close()
	})
	client := api.NewClient(socket)
	for _, err := client.Health(t.Context()); err != nil; _, err = client.Health(t.Context()) {
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	return NewNode(NodeOptions{
		Node: "n1", MaxVolumes: 4, Initiator: client, Mounter: mounter.New(), Locks: fakeLocks{},
	}), failing
}

// inPod stages and publishes, calls use with the target path, and undoes both.
func inPod(t *testing.T, n *Node, generation string, c *csi.VolumeCapability, use func(target string)) {
	t.Helper()
	dir := t.TempDir()
	stage := stageRequest(c)
	stage.StagingTargetPath = filepath.Join(dir, "stage")
	stage.PublishContext[keySize], stage.PublishContext[keyGeneration] = "536870912", generation
	if _, err := n.NodeStageVolume(t.Context(), stage); err != nil {
		t.Fatalf("stage: %v", err)
	}
	publish := publishRequest(c)
	publish.StagingTargetPath, publish.TargetPath = stage.GetStagingTargetPath(), filepath.Join(dir, "target")
	if _, err := n.NodePublishVolume(t.Context(), publish); err != nil {
		t.Errorf("publish: %v", err)
	} else {
		use(publish.GetTargetPath())
	}
	unpublish(t, n, publish.GetTargetPath())
	if _, err := n.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{
		VolumeId: "v", StagingTargetPath: stage.GetStagingTargetPath(),
	}); err != nil {
		t.Errorf("unstage: %v", err)
	}
}

func unpublish(t *testing.T, n *Node, target string) {
	t.Helper()
	r := &csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: target}
	if _, err := n.NodeUnpublishVolume(t.Context(), r); err != nil {
		t.Errorf("unpublish: %v", err)
	}
}

func TestAPodFindsItsFilesAgainOnTheNextAttachment(t *testing.T) {
	n, _ := newRealNode(t)
	content := bytes.Repeat([]byte("shale"), 100_000)
	inPod(t, n, "1", mountCapability("ext4"), func(target string) {
		if err := os.WriteFile(filepath.Join(target, "file"), content, 0o600); err != nil {
			t.Error(err)
		}
		stats, err := n.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: target})
		if err != nil || stats.GetUsage()[0].GetUsed() < int64(len(content)) {
			t.Errorf("stats: %v, %v", stats, err)
		}
	})
	inPod(t, n, "2", mountCapability("ext4"), func(target string) {
		got, err := os.ReadFile(filepath.Join(target, "file"))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("read back %d bytes, %v", len(got), err)
		}
	})
}

func TestAFilesystemThatHasFailedIsMountedAnewForTheNextPod(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		n, failing := newRealNode(t)
		c := mountCapability(fsType)
		inPod(t, n, "1", c, func(target string) {
			failAndRecover(t, target, failing)
			_, err := n.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: target})
			wantStatus(t, fsType+": stats", err, codes.Internal)
			next := publishRequest(c)
			next.StagingTargetPath, next.TargetPath = filepath.Join(filepath.Dir(target), "stage"), target+"-next"
			next.PublishContext = stageRequest(c).GetPublishContext()
			next.PublishContext[keySize], next.PublishContext[keyGeneration] = "536870912", "1"
			_, err = n.NodePublishVolume(t.Context(), next)
			wantStatus(t, fsType+": while the former pod has it", err, codes.Aborted)
			unpublish(t, n, target)
			if _, err := n.NodePublishVolume(t.Context(), next); err != nil {
				t.Errorf("%s: publish: %v", fsType, err)
			}
			if err := os.WriteFile(filepath.Join(next.GetTargetPath(), "file"), []byte("well"), 0o600); err != nil {
				t.Errorf("%s: the next pod cannot write: %v", fsType, err)
			}
			unpublish(t, n, next.GetTargetPath())
		})
	}
}

// failAndRecover has writes fail until the file system has noticed.
func failAndRecover(t *testing.T, target string, failing *atomic.Bool) {
	t.Helper()
	failing.Store(true)
	defer failing.Store(false)
	for n := 0; t.Context().Err() == nil; n++ {
		f, err := os.Create(filepath.Join(target, fmt.Sprintf("file%d", n)))
		if err != nil {
			return
		}
		_ = unix.Syncfs(int(f.Fd()))
		_ = f.Close()
	}
}

func TestAPodSeesARawBlockDevice(t *testing.T) {
	n, _ := newRealNode(t)
	inPod(t, n, "1", blockCapability(), func(target string) {
		f, err := os.OpenFile(target, os.O_RDWR|os.O_SYNC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = f.Close() }()
		if _, err := f.WriteAt([]byte("block"), deviceSize-4096); err != nil {
			t.Errorf("write: %v", err)
		}
		stats, err := n.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: target})
		if err != nil || stats.GetUsage()[0].GetTotal() != deviceSize {
			t.Errorf("stats: %v, %v", stats, err)
		}
	})
}
