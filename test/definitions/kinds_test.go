package definitions

import (
	"testing"

	"github.com/shale-storage/shale/api/v1alpha1"
)

func TestAVolumeSaysWhatIsWrongWithIt(t *testing.T) {
	fresh := func(name string) *v1alpha1.Volume {
		return &v1alpha1.Volume{ObjectMeta: meta(name), Spec: v1alpha1.VolumeSpec{
			ID: uuid(1), SizeBytes: 1 << 30, PoolName: "fast", Replicas: 3, ShardSizeBytes: 64 << 20,
			Attachments:      []v1alpha1.VolumeAttachment{{NodeName: "n1", Generation: 2}},
			AttachGeneration: 2,
		}}
	}
	spec := func(change func(s *v1alpha1.VolumeSpec)) func(*v1alpha1.Volume) {
		return func(v *v1alpha1.Volume) { change(&v.Spec) }
	}
	checkAll(t, fresh, []change[*v1alpha1.Volume]{
		{name: "a usual one is accepted"},
		{
			name: "a name that leaves no room for the Shards'", refusal: "metadata.name",
			from: func(v *v1alpha1.Volume) {
				v.Name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
			},
		},
		{name: "an id that is no UUID", refusal: "spec.id", from: spec(func(s *v1alpha1.VolumeSpec) { s.ID = "x" })},
		{name: "another id", refusal: "spec.id", to: spec(func(s *v1alpha1.VolumeSpec) { s.ID = uuid(2) })},
		{name: "no size", refusal: "spec.sizeBytes", from: spec(func(s *v1alpha1.VolumeSpec) { s.SizeBytes = 0 })},
		{
			name: "a size of half a Block", refusal: "spec.sizeBytes",
			from: spec(func(s *v1alpha1.VolumeSpec) { s.SizeBytes += 2048 }),
		},
		{
			name: "a size of too many Shards", refusal: "spec.sizeBytes",
			from: spec(func(s *v1alpha1.VolumeSpec) { s.SizeBytes = s.ShardSizeBytes<<16 + 4096 }),
		},
		{
			name: "a size of just not too many Shards",
			from: spec(func(s *v1alpha1.VolumeSpec) { s.SizeBytes = s.ShardSizeBytes << 16 }),
		},
		{
			name: "growing", refusal: "sizeBytes cannot change: volumes cannot grow yet",
			to: spec(func(s *v1alpha1.VolumeSpec) { s.SizeBytes += 4096 }),
		},
		{
			name: "shrinking", refusal: "spec.sizeBytes",
			to: spec(func(s *v1alpha1.VolumeSpec) { s.SizeBytes -= 4096 }),
		},
		{name: "no Pool", refusal: "spec.poolName", from: spec(func(s *v1alpha1.VolumeSpec) { s.PoolName = "" })},
		{name: "another Pool", refusal: "spec.poolName", to: spec(func(s *v1alpha1.VolumeSpec) { s.PoolName = "slow" })},
		{name: "no Replicas", refusal: "spec.replicas", from: spec(func(s *v1alpha1.VolumeSpec) { s.Replicas = 0 })},
		{name: "five Replicas", from: spec(func(s *v1alpha1.VolumeSpec) { s.Replicas = 5 })},
		{name: "six Replicas", refusal: "spec.replicas", from: spec(func(s *v1alpha1.VolumeSpec) { s.Replicas = 6 })},
		{name: "more Replicas later", to: spec(func(s *v1alpha1.VolumeSpec) { s.Replicas = 4 })},
		{name: "all Replicas in sync asked for", from: spec(func(s *v1alpha1.VolumeSpec) { s.MinInSync = 3 })},
		{
			name: "more in sync than there are Replicas", refusal: "spec.minInSync",
			from: spec(func(s *v1alpha1.VolumeSpec) { s.MinInSync = 4 }),
		},
		{
			name: "less than none in sync", refusal: "spec.minInSync",
			from: spec(func(s *v1alpha1.VolumeSpec) { s.MinInSync = -1 }),
		},
		{name: "another number in sync later", to: spec(func(s *v1alpha1.VolumeSpec) { s.MinInSync = 1 })},
		{
			name: "fewer Replicas than asked for in sync", refusal: "spec.minInSync",
			from: spec(func(s *v1alpha1.VolumeSpec) { s.MinInSync = 3 }),
			to:   spec(func(s *v1alpha1.VolumeSpec) { s.Replicas = 2 }),
		},
		{
			name: "a Shard size of no whole MiB", refusal: "spec.shardSizeBytes",
			from: spec(func(s *v1alpha1.VolumeSpec) { s.ShardSizeBytes += 4096 }),
		},
		{
			name: "another Shard size", refusal: "spec.shardSizeBytes",
			to: spec(func(s *v1alpha1.VolumeSpec) { s.ShardSizeBytes *= 2 }),
		},
		{name: "an attachment more", to: spec(func(s *v1alpha1.VolumeSpec) {
			s.AttachGeneration = 3
			s.Attachments = append(s.Attachments, v1alpha1.VolumeAttachment{NodeName: "n2", Generation: 3})
		})},
		{name: "the last attachment ends", to: spec(func(s *v1alpha1.VolumeSpec) { s.Attachments = nil })},
		{
			name: "an attachment above the highest generation", refusal: "spec.attachments",
			to: spec(func(s *v1alpha1.VolumeSpec) { s.Attachments[0].Generation = 3 }),
		},
		{
			name: "two attachments of one node", refusal: "spec.attachments[1]: Duplicate value",
			from: spec(func(s *v1alpha1.VolumeSpec) { s.Attachments = append(s.Attachments, s.Attachments[0]) }),
		},
		{
			name: "a lower generation", refusal: "spec.attachGeneration",
			to: spec(func(s *v1alpha1.VolumeSpec) { s.AttachGeneration, s.Attachments = 1, nil }),
		},
		{
			name: "a generation left out", refusal: "spec.attachGeneration",
			to: spec(func(s *v1alpha1.VolumeSpec) { s.AttachGeneration, s.Attachments = 0, nil }),
		},
	})
}

func TestAPoolSaysWhatIsWrongWithIt(t *testing.T) {
	fresh := func(name string) *v1alpha1.Pool {
		return &v1alpha1.Pool{ObjectMeta: meta(name), Spec: v1alpha1.PoolSpec{
			DeviceSelector: v1alpha1.DeviceSelector{Paths: []string{"/dev/nvme*n1"}},
		}}
	}
	selector := func(change func(s *v1alpha1.DeviceSelector)) func(*v1alpha1.Pool) {
		return func(p *v1alpha1.Pool) { change(&p.Spec.DeviceSelector) }
	}
	checkAll(t, fresh, []change[*v1alpha1.Pool]{
		{name: "a usual one is accepted"},
		{
			name: "no paths", refusal: "spec.deviceSelector.paths",
			from: selector(func(s *v1alpha1.DeviceSelector) { s.Paths = nil }),
		},
		{
			name: "a path below nowhere", refusal: "spec.deviceSelector.paths[0]",
			from: selector(func(s *v1alpha1.DeviceSelector) { s.Paths[0] = "sda" }),
		},
		{
			name: "a negative size", refusal: "spec.deviceSelector.minSizeBytes",
			from: selector(func(s *v1alpha1.DeviceSelector) { s.MinSizeBytes = -1 }),
		},
		{
			name: "sizes that nothing has", refusal: "spec.deviceSelector.maxSizeBytes",
			from: selector(func(s *v1alpha1.DeviceSelector) { s.MinSizeBytes, s.MaxSizeBytes = 2, 1 }),
		},
		{
			name: "sizes that something has",
			from: selector(func(s *v1alpha1.DeviceSelector) { s.MinSizeBytes, s.MaxSizeBytes = 1, 1 }),
		},
		{
			name: "an engine that is not there", refusal: "spec.engine",
			from: func(p *v1alpha1.Pool) { p.Spec.Engine = "spdk" },
		},
		{
			name: "a failure domain", from: func(p *v1alpha1.Pool) { p.Spec.FailureDomain = "topology.kubernetes.io/zone" },
		},
		{
			name: "a failure domain that is no label", refusal: "spec.failureDomain",
			from: func(p *v1alpha1.Pool) { p.Spec.FailureDomain = "a rack" },
		},
		{
			name: "a negative promise", refusal: "spec.overcommitPercent",
			from: func(p *v1alpha1.Pool) { p.Spec.OvercommitPercent = -5 },
		},
	})
}

func TestAPoolHasTheUsualEngineAndPromisesNoMoreThanThereIs(t *testing.T) {
	needsAPI(t)
	p := &v1alpha1.Pool{ObjectMeta: meta("defaults"), Spec: v1alpha1.PoolSpec{
		DeviceSelector: v1alpha1.DeviceSelector{Paths: []string{"/dev/sdz"}},
	}}
	if err := server.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if p.Spec.Engine != "uring" || p.Spec.OvercommitPercent != 100 {
		t.Errorf("engine %q, overcommit %d%%", p.Spec.Engine, p.Spec.OvercommitPercent)
	}
}

func TestADeviceKeepsItsIdentity(t *testing.T) {
	number := 100
	claimed := func(string) *v1alpha1.Device {
		number++
		return &v1alpha1.Device{ObjectMeta: meta(device(number)), Spec: v1alpha1.DeviceSpec{
			UUID: uuid(number), PoolName: "fast", NodeName: "n1", Path: "/dev/sda",
		}}
	}
	checkAll(t, claimed, []change[*v1alpha1.Device]{
		{name: "a claimed one is accepted"},
		{name: "a candidate has no UUID", from: func(d *v1alpha1.Device) { d.Name, d.Spec.UUID = "cand-n1-0123", "" }},
		{name: "it moves", to: func(d *v1alpha1.Device) { d.Spec.NodeName, d.Spec.Path = "n2", "/dev/sdb" }},
		{name: "a name of another", refusal: "spec.uuid", from: func(d *v1alpha1.Device) { d.Name = device(1) }},
		{
			name: "something that is no UUID", refusal: "spec.uuid",
			from: func(d *v1alpha1.Device) { d.Name, d.Spec.UUID = "dev-a", "a" },
		},
		{name: "another UUID", refusal: "spec.uuid", to: func(d *v1alpha1.Device) { d.Spec.UUID = uuid(1) }},
		{name: "its UUID is forgotten", refusal: "spec.uuid", to: func(d *v1alpha1.Device) { d.Spec.UUID = "" }},
		{name: "no Pool", refusal: "spec.poolName", from: func(d *v1alpha1.Device) { d.Spec.PoolName = "" }},
		{name: "no node", refusal: "spec.nodeName", from: func(d *v1alpha1.Device) { d.Spec.NodeName = "" }},
	})
}

func TestAStoreNodeIsReachedByKnownTransports(t *testing.T) {
	fresh := func(name string) *v1alpha1.StoreNode { return &v1alpha1.StoreNode{ObjectMeta: meta(name)} }
	checkAll(t, fresh, []change[*v1alpha1.StoreNode]{
		{name: "tcp", from: func(n *v1alpha1.StoreNode) { n.Spec.Addresses = map[string]string{"tcp": "10.0.0.1:7800"} }},
		{
			name: "what nobody dials yet", refusal: "spec.addresses",
			from: func(n *v1alpha1.StoreNode) { n.Spec.Addresses = map[string]string{"rdma": "10.0.0.1:7800"} },
		},
		{
			name: "a pigeon", refusal: "spec.addresses",
			from: func(n *v1alpha1.StoreNode) { n.Spec.Addresses = map[string]string{"pigeon": "roof"} },
		},
	})
}

func TestASnapshotIsOfOneMomentForEver(t *testing.T) {
	fresh := func(name string) *v1alpha1.Snapshot {
		return &v1alpha1.Snapshot{ObjectMeta: meta(name), Spec: v1alpha1.SnapshotSpec{VolumeName: "v", Sequence: 1}}
	}
	checkAll(t, fresh, []change[*v1alpha1.Snapshot]{
		{name: "a usual one is accepted"},
		{name: "no Volume", refusal: "spec.volumeName", from: func(s *v1alpha1.Snapshot) { s.Spec.VolumeName = "" }},
		{name: "no sequence", refusal: "spec.sequence", from: func(s *v1alpha1.Snapshot) { s.Spec.Sequence = 0 }},
		{name: "another Volume", refusal: "spec.volumeName", to: func(s *v1alpha1.Snapshot) { s.Spec.VolumeName = "w" }},
		{name: "another moment", refusal: "spec.sequence", to: func(s *v1alpha1.Snapshot) { s.Spec.Sequence = 2 }},
	})
}
