package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/holder"
	"github.com/shale-storage/shale/csi/attach/loop"
	"github.com/shale-storage/shale/csi/attach/volume"
	"github.com/shale-storage/shale/csi/initiator"
	"github.com/shale-storage/shale/csi/initiator/api"
)

// childDir, when set, makes the test program an initiator: the directory of its sockets and of its state. childLife is
// the life that it is to take.
const (
	childDir  = "SHALE_TEST_INITIATOR"
	childLife = "SHALE_TEST_LIFE"
)

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := child(dir); err != nil {
		fmt.Fprintln(os.Stderr, "initiator:", err)
		os.Exit(1)
	}
}

// child is an initiator as csi/setup makes it.
func child(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	frontend, err := loop.New(loop.Options{StateDir: filepath.Join(dir, "loop"), Log: log()})
	if err != nil {
		return err
	}
	p, err := newProcess()
	if err != nil {
		return err
	}
	life, err := strconv.ParseUint(os.Getenv(childLife), 10, 32)
	if err != nil {
		return err
	}
	return initiator.Run(ctx, initiator.Options{
		Socket: filepath.Join(dir, "initiator.sock"), Node: "here", Frontends: []attach.Frontend{frontend},
		Open: volume.Opener(p), MaxVolumes: 4, Holder: filepath.Join(dir, "holder.sock"),
		Life: uint32(life), Log: log(),
	})
}

// consumer is a consumer node: a holder in this process, and an initiator that is a process of its own.
type consumer struct {
	c       *cluster
	dir     string
	api     *api.Client
	process *exec.Cmd
	// life of the process: the second in which it began, as csi/setup takes it.
	life uint32

	holding  sync.WaitGroup
	letGo    context.CancelFunc
	attached api.AttachRequest
}

func newConsumer(c *cluster) *consumer {
	c.t.Helper()
	if os.Geteuid() != 0 {
		c.t.Skip("needs root")
	}
	// The path of a unix socket is short.
	dir, err := os.MkdirTemp("", "stack")
	if err != nil {
		c.t.Fatal(err)
	}
	n := &consumer{c: c, dir: dir, api: api.NewClient(filepath.Join(dir, "initiator.sock"))}
	c.t.Cleanup(func() {
		n.kill()
		n.letGo()
		n.holding.Wait()
		n.cleanUp()
		_ = os.RemoveAll(dir)
	})
	n.hold()
	n.start()
	return n
}

// hold starts a holder.
func (n *consumer) hold() {
	n.c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n.letGo = cancel
	l, err := holder.Listen(ctx, filepath.Join(n.dir, "holder.sock"))
	if err != nil {
		n.c.t.Fatal(err)
	}
	n.holding.Go(func() {
		if err := holder.New(log()).Serve(ctx, l); err != nil {
			n.c.t.Errorf("holder: %v", err)
		}
	})
}

func (n *consumer) start() {
	n.c.t.Helper()
	n.process = exec.CommandContext(context.Background(), os.Args[0])
	n.life = uint32(time.Now().Unix())
	n.process.Env = append(os.Environ(), childDir+"="+n.dir, fmt.Sprintf("%s=%d", childLife, n.life))
	n.process.Stderr = os.Stderr
	if err := n.process.Start(); err != nil {
		n.c.t.Fatal(err)
	}
}

// kill ends the initiator at once.
func (n *consumer) kill() {
	if n.process != nil {
		_ = n.process.Process.Kill()
		_ = n.process.Wait()
		n.process = nil
	}
}

// stop ends it in order, as an upgrade does.
func (n *consumer) stop() {
	n.c.t.Helper()
	if err := n.process.Process.Signal(unix.SIGTERM); err != nil {
		n.c.t.Fatal(err)
	}
	if err := n.process.Wait(); err != nil {
		n.c.t.Errorf("initiator: %v", err)
	}
	n.process = nil
}

// cleanUp ends what is left in the kernel, as the next initiator would.
func (n *consumer) cleanUp() {
	f, err := loop.New(loop.Options{StateDir: filepath.Join(n.dir, "loop"), Log: log()})
	if err == nil {
		err = f.CleanUp(context.Background())
	}
	if err != nil {
		n.c.t.Errorf("clean up: %v", err)
	}
}

// attach asks for the device of the first attachment until the initiator is up.
func (n *consumer) attach() string { return n.attachAs(v1alpha1.AttachGenerationStep) }

func (n *consumer) attachAs(generation uint64) string {
	n.c.t.Helper()
	n.attached = n.c.request(generation)
	var device string
	n.c.until("the device is there", func() bool {
		a, err := n.api.Attach(n.c.t.Context(), n.attached)
		device = a.DevicePath
		return err == nil
	})
	return device
}

// detach waits for the last opener.
func (n *consumer) detach() {
	n.c.t.Helper()
	n.c.until("the volume is detached", func() bool { return n.api.Detach(n.c.t.Context(), "stack") == nil })
}

// fioResult is what of fio's report matters here.
type fioResult struct {
	Jobs []struct {
		Error       int
		Read, Write struct {
			Clat struct{ Max int64 } `json:"clat_ns"`
		}
	}
}

// maxStall is how long a request may take across the end of an initiator, on a machine that does other work too.
const maxStall = 10 * time.Second

// TestFioVerifiesWhileTheInitiatorDies is the promise as an application sees it: the initiator is killed again and
// again, and ended in order, and the application sees no error, no wrong byte, and no stall longer than maxStall.
func TestFioVerifiesWhileTheInitiatorDies(t *testing.T) {
	needFio(t)
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	c := newCluster(t, 4)
	n := newConsumer(c)
	device := n.attach()
	if h, err := n.api.Health(t.Context()); err != nil || h.Held != 1 {
		n.detach()
		t.Skipf("this kernel does not send requests again (6.9 and newer do): %+v, %v", h, err)
	}
	fio := exec.CommandContext(t.Context(), "fio", "--name=verify", "--filename="+device, "--rw=randwrite",
		"--bsrange=4k-128k", "--blockalign=4k", "--iodepth=16", "--ioengine=libaio", "--direct=1", "--time_based",
		"--runtime=20", "--verify=crc32c", "--verify_backlog=256", "--verify_fatal=1", "--fsync=200",
		"--output-format=json")
	fio.Dir = t.TempDir() // it leaves its state where it runs
	ended := make(chan error, 1)
	var text []byte
	go func() {
		var err error
		text, err = fio.Output()
		ended <- err
	}()
	deaths := 0
	for ; len(ended) == 0 && deaths < 12; deaths++ {
		n.progress(device, ended)
		if deaths%4 == 3 {
			n.stop()
		} else {
			n.kill()
		}
		n.start()
	}
	err := <-ended
	var result fioResult
	if e := json.Unmarshal(text, &result); err != nil || e != nil || len(result.Jobs) != 1 || result.Jobs[0].Error != 0 {
		t.Fatalf("fio: %v, %v\n%s", err, e, text)
	}
	stall := time.Duration(max(result.Jobs[0].Read.Clat.Max, result.Jobs[0].Write.Clat.Max))
	t.Logf("the initiator ended %d times; the slowest request took %s", deaths, stall)
	if stall > maxStall {
		t.Errorf("a request took %s, want at most %s", stall, maxStall)
	}
	n.attach() // waits until the last one has resumed
	n.detach()
	if deaths < 4 {
		t.Errorf("the initiator ended %d times, want at least 4", deaths)
	}
}

// progress waits until the device has done some hundred requests more.
func (n *consumer) progress(device string, ended <-chan error) {
	n.c.t.Helper()
	from := requests(n.c.t, device)
	n.c.until("I/O goes on", func() bool { return requests(n.c.t, device) > from+300 || len(ended) > 0 })
}

// requests is how many reads and writes the device has completed.
func requests(tb testing.TB, device string) int64 {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "stat"))
	if err != nil {
		tb.Fatal(err)
	}
	var reads, merged, sectors, ms, writes int64
	if _, err := fmt.Sscan(string(text), &reads, &merged, &sectors, &ms, &writes); err != nil {
		tb.Fatal(err)
	}
	return reads + writes
}
