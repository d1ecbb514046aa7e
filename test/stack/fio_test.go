package stack

import (
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"github.com/shale-storage/shale/storenode/client"
)

func needFio(tb testing.TB) {
	tb.Helper()
	if _, err := exec.LookPath("fio"); err != nil {
		tb.Skipf("needs fio: %v", err)
	}
}

// TestFioVerifiesWhileStorenodesDie is the promise as an application sees it: each storenode in turn is killed and
// comes back, and no read gives anything but what was written.
func TestFioVerifiesWhileStorenodesDie(t *testing.T) {
	needFio(t)
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	c := newCluster(t, 4)
	device, m := c.attach()
	fio := exec.CommandContext(t.Context(), "fio", "--name=verify", "--filename="+device, "--rw=randwrite",
		"--bsrange=4k-128k", "--blockalign=4k", "--iodepth=16", "--ioengine=io_uring", "--direct=1", "--time_based",
		"--runtime=15", "--verify=crc32c", "--verify_backlog=256", "--verify_fatal=1", "--fsync=500")
	fio.Dir = t.TempDir() // it leaves its state where it runs
	ended := make(chan error, 1)
	var text []byte
	go func() {
		var err error
		text, err = fio.CombinedOutput()
		ended <- err
	}()
	writes := func() int64 { return m.Requests[client.OpWrite].Load() }
	more := func(n int64) {
		t.Helper()
		from := writes()
		c.until("writes go on", func() bool { return writes() > from+n || len(ended) > 0 })
	}
	for _, n := range c.nodes {
		more(1000)
		n.end()
		began := time.Now()
		more(500)
		t.Logf("%s was away: writes went on after %s", n.address, time.Since(began).Round(time.Millisecond))
		n.start()
		c.until("replicas are in sync again", c.whole)
	}
	if err := <-ended; err != nil {
		t.Errorf("fio: %v\n%s", err, text)
	}
	t.Logf("%d writes, %d resends, %d redirects, %d busy, %.1f s stalled", writes(), m.Resends.Load(),
		m.Redirects.Load(), m.Busy.Load(), m.StalledSeconds())
	if f := m.Failed.Load(); f != 0 {
		t.Errorf("%d requests failed", f)
	}
}

// BenchmarkFio measures the whole way on this machine:
//
//	go test -run '^$' -bench Fio -benchtime 1x ./test/stack/
func BenchmarkFio(b *testing.B) {
	needFio(b)
	device, _ := newCluster(b, 4).attach()
	for _, job := range []struct{ name, rw, depth string }{
		{"randwrite-4k-qd1", "randwrite", "1"},
		{"randwrite-4k-qd32", "randwrite", "32"},
		{"randread-4k-qd1", "randread", "1"},
		{"randread-4k-qd32", "randread", "32"},
	} {
		b.Run(job.name, func(b *testing.B) {
			for range b.N {
				report(b, device, job.rw, job.depth)
			}
		})
	}
}

func report(b *testing.B, device, rw, depth string) {
	b.Helper()
	text, err := exec.CommandContext(b.Context(), "fio", "--name=b", "--filename="+device, "--rw="+rw, "--bs=4k",
		"--iodepth="+depth, "--direct=1", "--ioengine=io_uring", "--time_based", "--runtime=5", "--ramp_time=1",
		"--norandommap", "--output-format=json").Output()
	if err != nil {
		b.Fatal(err)
	}
	type side struct {
		IOPS float64 `json:"iops"`
	}
	var result struct {
		Jobs []struct{ Read, Write side } `json:"jobs"`
	}
	if err := json.Unmarshal(text, &result); err != nil || len(result.Jobs) != 1 {
		b.Fatalf("decode fio output: %v\n%s", err, text)
	}
	b.ReportMetric(max(result.Jobs[0].Read.IOPS, result.Jobs[0].Write.IOPS), "IOPS")
}
