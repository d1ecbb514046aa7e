package loop

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// BenchmarkFio is what the way through loop and FUSE costs with a Backend that costs nothing:
//
//	go test -run '^$' -bench Fio -benchtime 1x ./csi/attach/loop/
func BenchmarkFio(b *testing.B) {
	if _, err := exec.LookPath("fio"); err != nil {
		b.Skipf("not installed: %v", err)
	}
	f := newFrontend(b)
	_, d := attachMemory(b, f, "fio-bench")
	for _, job := range []struct{ name, rw, size, depth string }{
		{"randread-4k-qd1", "randread", "4k", "1"},
		{"randwrite-4k-qd1", "randwrite", "4k", "1"},
		{"randread-4k-qd32", "randread", "4k", "32"},
		{"randwrite-4k-qd32", "randwrite", "4k", "32"},
		{"read-128k-qd8", "read", "128k", "8"},
		{"write-128k-qd8", "write", "128k", "8"},
	} {
		b.Run(job.name, func(b *testing.B) {
			for range b.N {
				text := run(b, "fio", "--name=bench", "--filename="+d.Path, "--rw="+job.rw, "--bs="+job.size,
					"--iodepth="+job.depth, "--direct=1", "--ioengine=io_uring", "--time_based", "--runtime=5",
					"--ramp_time=1", "--norandommap", "--output-format=json")
				report(b, text)
			}
		})
	}
}

// report turns the answer of fio into metrics.
func report(b *testing.B, text string) {
	b.Helper()
	type side struct {
		IOPS float64 `json:"iops"`
		Clat struct {
			Percentile map[string]float64 `json:"percentile"`
		} `json:"clat_ns"`
	}
	var result struct {
		Jobs []struct{ Read, Write side } `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil || len(result.Jobs) != 1 {
		b.Fatalf("decode fio output: %v\n%s", err, text)
	}
	s := result.Jobs[0].Read
	if s.IOPS == 0 {
		s = result.Jobs[0].Write
	}
	b.ReportMetric(s.IOPS, "IOPS")
	b.ReportMetric(s.Clat.Percentile["99.000000"]/1000, "p99-µs")
}
