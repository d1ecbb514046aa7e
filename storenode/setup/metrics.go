package setup

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/shale-storage/shale/storenode/setup/process"
	"github.com/shale-storage/shale/storenode/shard"
)

const prefix = "shale_storenode_"

// describe names a metric; docs/operate/metrics.md explains each.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

var (
	requests = describe("requests_total", "Requests of clients, by operation.", "operation")
	moved    = describe("data_bytes_total", "Bytes that clients read and wrote.", "direction")
	frames   = describe("frames_total", "Frames received and sent.", "direction")
	network  = describe("network_bytes_total", "Bytes received and sent.", "direction")
	bad      = describe("bad_frames_total", "Connections closed because of bytes that were no frame.")
	open     = describe("connections", "Connections open now.")
	memory   = describe("memory_bytes", "Memory for data on its way.", "kind")
	refused  = describe("memory_refused_total", "Times that memory for data on its way was at its limit.")
	space    = describe("device_bytes", "Space of each Device.", "device", "kind")
	failed   = describe("device_failed", "1 for a Device that takes no writes any more.", "device")
	replicas = describe("replicas", "Replicas here, by state.", "state")
	healed   = describe("blocks_healed_total", "Damaged Blocks that were put right from another Replica.")
	lost     = describe("blocks_lost_total", "Times that a Block was found which no Replica can read.")
	scrubbed = describe("scrubbed_extents_total", "Extents looked through, on all members of InSync.")
	differ   = describe("different_extents_total", "Extents that differed between members of InSync.")
	rebuilt  = describe("rebuilt_bytes_total", "Bytes copied from here to Replicas that are brought in sync.")
	pace     = describe("rebuild_rate_bytes", "How fast may be copied beside the clients now, in bytes a second.")
	left     = describe("rebuild_left_seconds", "How long the slowest Rebuild of a Replica here is expected to take yet.")
	progress = describe("rebuild_progress_ratio", "How far the Rebuild here is that is least far.")
	served   = describe("primaries", "Shards served from here.")
)

// collector reads everything when it is asked for, so that nothing is counted twice or on the data path.
type collector struct {
	s *process.Server
	d *devices
}

func registerMetrics(r prometheus.Registerer, s *process.Server, d *devices) {
	r.MustRegister(&collector{s, d}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		requests, moved, frames, network, bad, open, memory, refused, space, failed, replicas, served,
		healed, lost, scrubbed, differ, rebuilt, pace, left, progress,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	emit := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	count := func(d *prometheus.Desc, value uint64, labels ...string) {
		emit(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		emit(d, prometheus.GaugeValue, value, labels...)
	}
	n := c.s.Host.Counts()
	count(requests, n.Reads, "read")
	count(requests, n.Writes, "write")
	count(requests, n.Flushes, "flush")
	count(requests, n.Discards, "discard")
	count(moved, n.ReadBytes, "read")
	count(moved, n.WrittenBytes, "write")
	count(healed, n.HealedBlocks)
	count(lost, n.LostBlocks)
	count(scrubbed, n.ScrubbedExtents)
	count(differ, n.DifferentExtents)
	count(rebuilt, n.RebuiltBytes)
	gauge(pace, float64(c.s.Host.RebuildRate()))
	m := c.s.Metrics
	count(frames, uint64(m.FramesIn.Load()), "in")
	count(frames, uint64(m.FramesOut.Load()), "out")
	count(network, uint64(m.BytesIn.Load()), "in")
	count(network, uint64(m.BytesOut.Load()), "out")
	count(bad, uint64(m.BadFrames.Load()))
	gauge(open, float64(m.Connections.Load()))
	p := c.s.Pool.Stats()
	gauge(memory, float64(p.InUse), "in_use")
	gauge(memory, float64(p.Resident), "resident")
	gauge(memory, float64(p.Limit), "limit")
	count(refused, p.Refused)
	ofReplicas(c.s.Host.Statuses(), gauge)
	for _, s := range c.d.all() {
		id := s.Device().String()
		u, err := c.d.Usage(s.Device())
		gauge(space, float64(u.Capacity), id, "capacity")
		gauge(space, float64(u.Used), id, "used")
		gauge(space, float64(u.Reserved), id, "reserved")
		broken := 0.0
		if err != nil {
			broken = 1
		}
		gauge(failed, broken, id)
	}
}

// ofReplicas emits what is known of the Replicas here.
func ofReplicas(statuses []shard.Status, gauge func(*prometheus.Desc, float64, ...string)) {
	counts := map[shard.State]int{}
	primaries, slowest, least := 0, time.Duration(0), 100
	for i := range statuses {
		s := &statuses[i]
		counts[s.State]++
		slowest = max(slowest, s.RebuildLeft)
		if s.State == shard.StateRebuilding {
			least = min(least, s.RebuildPercent)
		}
		if s.Primary {
			primaries++
		}
	}
	for state, name := range map[shard.State]string{
		shard.StateCreated: "created", shard.StateInSync: "in_sync", shard.StateRebuilding: "rebuilding",
		shard.StateStale: "stale", shard.StateFailed: "failed",
	} {
		gauge(replicas, float64(counts[state]), name)
	}
	gauge(served, float64(primaries))
	gauge(left, slowest.Seconds())
	gauge(progress, float64(least)/100)
}
