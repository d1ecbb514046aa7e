package params

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParametersAreRead(t *testing.T) {
	got, err := Parse(map[string]string{
		KeyPool: "fast", KeyReplicas: "2", KeyMinInSync: "2", KeyShardSize: "1Gi", KeyFilesystem: "xfs",
		KeyPVCName: "data-0", KeyPVCNamespace: "shop", KeyPVName: "pvc-1",
	})
	want := Volume{
		Pool: "fast", Replicas: 2, MinInSync: 2, ShardSizeBytes: 1 << 30, Filesystem: "xfs",
		Claim: Claim{Namespace: "shop", Name: "data-0", PersistentVolume: "pvc-1"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestWhatIsNotGivenHasADefault(t *testing.T) {
	got, err := Parse(map[string]string{KeyPool: "fast"})
	want := Volume{Pool: "fast", Replicas: 3, ShardSizeBytes: 32 << 30}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestARefusalNamesTheKeyAndTheValue(t *testing.T) {
	for name, tc := range map[string]struct {
		key, value string
		want       []string
	}{
		"unknown key":           {"replica", "3", []string{`"replica"`, "replicas"}},
		"wrong case":            {"Pool", "fast", []string{`"Pool"`}},
		"empty pool":            {KeyPool, "", []string{"pool"}},
		"impossible pool":       {KeyPool, "Fast Pool", []string{"pool", `"Fast Pool"`}},
		"no replicas":           {KeyReplicas, "0", []string{"replicas", `"0"`, "1 to 5"}},
		"too many replicas":     {KeyReplicas, "6", []string{"replicas", `"6"`}},
		"replicas overflow":     {KeyReplicas, "4294967297", []string{"replicas"}},
		"replicas in words":     {KeyReplicas, "three", []string{"replicas", `"three"`}},
		"negative replicas":     {KeyReplicas, "-1", []string{"replicas"}},
		"none in sync":          {KeyMinInSync, "0", []string{"minInSync", `"0"`, "1 to 5"}},
		"more in sync than are": {KeyMinInSync, "4", []string{"minInSync", "4 of 3"}},
		"in sync in words":      {KeyMinInSync, "all", []string{"minInSync", `"all"`}},
		"small shards":          {KeyShardSize, "32Mi", []string{"shardSize", `"32Mi"`, "64Mi"}},
		"large shards":          {KeyShardSize, "2Ti", []string{"shardSize", "1Ti"}},
		"odd shards":            {KeyShardSize, "67108865", []string{"shardSize", "multiple"}},
		"shards of half a byte": {KeyShardSize, "67108864500m", []string{"shardSize"}},
		"shards in words":       {KeyShardSize, "big", []string{"shardSize", `"big"`}},
		"negative shards":       {KeyShardSize, "-64Mi", []string{"shardSize"}},
		"endless shards":        {KeyShardSize, "1e-99999999", []string{"shardSize", "32Gi"}},
		"filesystem":            {KeyFilesystem, "ntfs", []string{KeyFilesystem, `"ntfs"`, "ext4"}},
		"long value":            {KeyPool, strings.Repeat("x", 257), []string{"pool", "257"}},
	} {
		m := map[string]string{KeyPool: "fast"}
		m[tc.key] = tc.value
		_, err := Parse(m)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not name %s", name, err, want)
			}
		}
	}
	if _, err := Parse(nil); err == nil || !strings.Contains(err.Error(), KeyPool) {
		t.Errorf("no pool: %v", err)
	}
}

func TestSizesAreRoundedUpToBlocksWithinTheLimit(t *testing.T) {
	v := Volume{ShardSizeBytes: minShardSize}
	largest := int64(MaxShards * minShardSize)
	for _, tc := range []struct {
		name                  string
		required, limit, want int64
	}{
		{"nothing asked", 0, 0, DefaultVolumeSize},
		{"only a limit", 0, 10<<20 + 1, 10 << 20},
		{"exact", 8 << 20, 8 << 20, 8 << 20},
		{"rounded up", 8<<20 + 1, 0, 8<<20 + BlockSize},
		{"tiny", 1, 0, MinVolumeSize},
		{"largest", largest, 0, largest},
	} {
		got, err := v.Size(tc.required, tc.limit)
		if err != nil || got != tc.want {
			t.Errorf("%s: got %d, %v; want %d", tc.name, got, err, tc.want)
		}
	}
	for _, tc := range []struct {
		name            string
		required, limit int64
	}{
		{"negative", -1, 0},
		{"negative limit", 0, -1},
		{"backwards", 2 << 20, 1 << 20},
		{"no block between", 8<<20 + 1, 8<<20 + 2},
		{"limit below the smallest", 0, 4096},
		{"required and limit below the smallest", 1, 4096},
		{"too many shards", largest + 1, 0},
		{"overflow", 1<<63 - 1, 0},
	} {
		if got, err := v.Size(tc.required, tc.limit); err == nil || !strings.Contains(err.Error(), "capacity_range") {
			t.Errorf("%s: got %d, %v; want a refusal that names capacity_range", tc.name, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("replicas", "3", int64(1), int64(0))
	f.Add("shardSize", "1e9", int64(1)<<62, int64(1)<<62)
	f.Add("shardSize", "9223372036854775807E", int64(-1), int64(4096))
	f.Fuzz(func(t *testing.T, key, value string, required, limit int64) {
		v, err := Parse(map[string]string{KeyPool: "p", key: value})
		if err != nil {
			return
		}
		if v.Pool == "" || v.Replicas < 1 || v.Replicas > maxReplicas || v.MinInSync > v.Replicas ||
			v.ShardSizeBytes%shardSizeUnit != 0 {
			t.Fatalf("%q=%q gave %+v", key, value, v)
		}
		size, err := v.Size(required, limit)
		if err != nil {
			return
		}
		if size < required || limit > 0 && size > limit || size%BlockSize != 0 || size > MaxShards*v.ShardSizeBytes {
			t.Fatalf("%d to %d gave %d", required, limit, size)
		}
	})
}
