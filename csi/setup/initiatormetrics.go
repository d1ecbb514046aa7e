package setup

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/storenode/client"
)

// devices exports how many devices the initiator has and how many of them outlive it, both from one answer, and without
// asking through its socket: people end an initiator when the two are equal, and so they are when nothing is known.
type devices struct {
	health         func() api.Health
	attached, held *prometheus.Desc
}

func registerDevices(r prometheus.Registerer, health func() api.Health) {
	name := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("shale_initiator_"+name, help, nil, nil)
	}
	r.MustRegister(&devices{
		health: health, attached: name("attached_volumes", "Devices now."),
		held: name("held_volumes", "Devices that outlive this process."),
	})
}

// Describe implements prometheus.Collector.
func (d *devices) Describe(all chan<- *prometheus.Desc) {
	all <- d.attached
	all <- d.held
}

// Collect implements prometheus.Collector.
func (d *devices) Collect(all chan<- prometheus.Metric) {
	h := d.health()
	all <- prometheus.MustNewConstMetric(d.attached, prometheus.GaugeValue, float64(h.Attached))
	all <- prometheus.MustNewConstMetric(d.held, prometheus.GaugeValue, float64(h.Held))
}

// registerVolumes exports what the volume client counts.
func registerVolumes(r prometheus.Registerer, m *client.Metrics) {
	count := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "shale_initiator_" + name, Help: help}, value))
	}
	now := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "shale_initiator_" + name, Help: help}, value))
	}
	for op, name := range map[client.Op]string{
		client.OpRead: "read", client.OpWrite: "write", client.OpFlush: "flush", client.OpDiscard: "discard",
		client.OpWriteZeroes: "write_zeroes",
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "shale_initiator_requests_total", Help: "Requests that devices of volumes have made, by operation.",
			ConstLabels: prometheus.Labels{"operation": name},
		}, func() float64 { return float64(m.Requests[op].Load()) }))
	}
	count("failed_requests_total", "Requests that ended with an error.",
		func() float64 { return float64(m.Failed.Load()) })
	count("resends_total", "Parts of requests that were sent again.",
		func() float64 { return float64(m.Resends.Load()) })
	count("redirects_total", "Answers that named another primary or epoch.",
		func() float64 { return float64(m.Redirects.Load()) })
	count("busy_total", "Answers that asked to try again.", func() float64 { return float64(m.Busy.Load()) })
	count("too_few_in_sync_total", "Answers that too few replicas are in sync for a change.",
		func() float64 { return float64(m.TooFew.Load()) })
	count("map_questions_total", "Questions for the map of an attached volume.",
		func() float64 { return float64(m.Asked.Load()) })
	count("unreached_total", "Questions that told of a Primary that cannot be reached from here.",
		func() float64 { return float64(m.Unreached.Load()) })
	count("stalled_seconds_total", "Time in which volumes with requests in flight made no progress.", m.StalledSeconds)
	now("stalled_volumes", "Volumes that make no progress now.", func() float64 { return float64(m.Stalled.Load()) })
	now("requests_in_flight", "Requests in flight now.", func() float64 { return float64(m.InFlight.Load()) })
	now("connections", "Connections to storenodes that are in use.",
		func() float64 { return float64(m.Connections.Load()) })
}
