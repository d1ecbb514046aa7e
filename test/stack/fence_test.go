package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/attach/volume"
	"github.com/shale-storage/shale/storenode/client"
)

const (
	blockSize = 4096
	// place in its Shard of the Block that a test writes: where nobody looks by himself who meets a new device.
	place = shardSize / 2
)

// TestAVolumeIsOpenOnlyWhenEachShardRefusesTheFormerAttachment looks before there is a device: what the kernel asks of
// a new one, above all a flush, would fence as well, but later, and only with some frontends.
func TestAVolumeIsOpenOnlyWhenEachShardRefusesTheFormerAttachment(t *testing.T) {
	c := newCluster(t, 6)
	probes := c.probe(v1alpha1.AttachGenerationStep)
	for i, p := range probes {
		if err := p.write(i); err != nil {
			t.Fatalf("the attachment that is the newest is refused by shard %d: %v", i, err)
		}
	}
	process, err := newProcess()
	if err != nil {
		t.Fatal(err)
	}
	next, err := volume.Opener(process)(t.Context(), c.request(2*v1alpha1.AttachGenerationStep))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	for i, p := range probes {
		if err := p.write(i); !errors.Is(err, client.ErrFenced) {
			t.Errorf("the volume is open, and shard %d answers the former attachment %v", i, err)
		}
	}
}

// TestANodeBackFromTheDeadWritesNotOneByte is the promise on which detaching a dead node's volumes stands: as soon as
// the device of the next attachment is there, every Shard refuses the former, and what the former node had under way
// when it was stopped, or sends later, is nowhere.
func TestANodeBackFromTheDeadWritesNotOneByte(t *testing.T) {
	c := newCluster(t, 4)
	former, next := newConsumer(c), newConsumer(c)
	old := former.attach()
	probes := c.probe(v1alpha1.AttachGenerationStep + uint64(former.life))
	for i, p := range probes {
		if err := p.write(i); err != nil {
			t.Fatalf("the attachment that is the newest is refused by shard %d: %v", i, err)
		}
	}
	before := requests(t, old)
	writers := c.writeOnAndOn(old)
	c.until("writes are under way", func() bool { return requests(t, old) > before+50 })
	if err := former.process.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	device := next.attachAs(2 * v1alpha1.AttachGenerationStep)
	for i, p := range probes {
		if err := p.write(i); !errors.Is(err, client.ErrFenced) {
			t.Errorf("the next device is there, and shard %d answers the former attachment %v", i, err)
		}
	}
	own := c.blocks('B')
	for i := range c.shards {
		if out, err := dd(t, "if="+own, "of="+device, "oflag=direct", "conv=notrunc", seek("seek", i)); err != nil {
			t.Fatalf("the next attachment writes to shard %d: %v: %s", i, err, out)
		}
	}
	if err := former.process.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for i, w := range writers {
		if said := w.end(c); !strings.Contains(said, "Input/output error") {
			t.Errorf("shard %d: the former node's writes end with %q", i, said)
		}
	}
	for i := range c.shards {
		out, err := dd(t, "if="+device, "iflag=direct", seek("skip", i))
		if err != nil || !bytes.Equal(out, bytes.Repeat([]byte("B"), blockSize)) {
			t.Errorf("shard %d: read %.20q, %v", i, out, err)
		}
	}
	list, err := former.api.List(t.Context(), "")
	if err != nil || len(list) != 1 || !list[0].Fenced {
		t.Errorf("the former node lists %+v, %v", list, err)
	}
	former.detach()
	next.detach()
}

// blocks is a file with a Block of one letter.
func (c *cluster) blocks(letter byte) string {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "block")
	if err := os.WriteFile(path, bytes.Repeat([]byte{letter}, blockSize), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// seek is where dd finds the Block of the Shard.
func seek(word string, shard int) string {
	return fmt.Sprintf("%s=%d", word, (shard*shardSize+place)/blockSize)
}

// dd reads or writes a Block, in a process of its own: the storenodes are in this one, and a thread that waits for them
// in the kernel may be one that they wait for.
func dd(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	run := exec.CommandContext(t.Context(), "dd", append(args, "bs=4096", "count=1", "status=none")...)
	run.Env = append(os.Environ(), "LC_ALL=C")
	return run.CombinedOutput()
}

// writer writes to the Block of a Shard until that fails, and tells why.
type writer struct {
	said  bytes.Buffer
	ended chan struct{}
}

func (c *cluster) writeOnAndOn(device string) []*writer {
	c.t.Helper()
	content := c.blocks('A')
	var all []*writer
	for i := range c.shards {
		w := &writer{ended: make(chan struct{})}
		sh := exec.CommandContext(context.Background(), "sh", "-c", `while dd if="$1" of="$2" "$3" bs=4096 count=1 `+
			`oflag=direct conv=notrunc status=none; do :; done`, "sh", content, device, seek("seek", i))
		sh.Stderr = &w.said
		if err := sh.Start(); err != nil {
			c.t.Fatal(err)
		}
		go func() { _ = sh.Wait(); close(w.ended) }()
		all = append(all, w)
	}
	return all
}

// end waits for it.
func (w *writer) end(c *cluster) string {
	c.t.Helper()
	select {
	case <-w.ended:
	case <-time.After(patience):
		c.t.Fatal("the former node's writes neither fail nor succeed")
	}
	return w.said.String()
}

// probe is a client that writes by itself, as what an attachment has left on its way would.
type probe struct{ volume *client.Volume }

// probe makes one for each Shard, since a client that was refused once asks no other Shard.
func (c *cluster) probe(generation uint64) []probe {
	c.t.Helper()
	var all []probe
	for range c.shards {
		v, _ := c.open(generation)
		all = append(all, probe{v})
	}
	return all
}

// RequestDone implements client.Completer.
func (r ended) RequestDone(*client.Request) { r <- struct{}{} }

type ended chan struct{}

// write writes to the Shard's Block.
func (p probe) write(shard int) error {
	done := make(ended, 1)
	r := &client.Request{
		Op: client.OpWrite, Offset: int64(shard)*shardSize + place, Length: blockSize, Buffer: p.volume.Buffer(blockSize),
		Done: done,
	}
	defer r.Buffer.Release()
	copy(r.Buffer.Bytes(), "P")
	p.volume.Submit(r)
	p.volume.Kick()
	<-done
	return r.Err
}
