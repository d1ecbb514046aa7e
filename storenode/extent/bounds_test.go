package extent

import (
	"errors"
	"math"
	"testing"

	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/journal"
	"github.com/shale-storage/shale/storenode/layout"
)

// TestAReplicaThatIsTooLargeForItsMapIsRefused: such a size is in no Checkpoint of ours, whatever its checksum says.
func TestAReplicaThatIsTooLargeForItsMapIsRefused(t *testing.T) {
	g, err := layout.NewGeometry(layout.MinDevice)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{math.MaxUint32 * layout.ExtentSize, math.MaxInt64} {
		table := New(g)
		if err := table.Restore(&layout.Replica{Size: size}); errors.Is(err, ErrInconsistent) {
			continue
		}
		err := table.RestoreSlot(&layout.Slot{Blocks: &layout.Blocks{}}, layout.CopyFirst)
		t.Errorf("a replica of %d bytes is accepted, and then says %v", size, err)
	}
	table := New(g)
	if err := table.Restore(&layout.Replica{Size: maxSize}); err != nil {
		t.Fatal(err)
	}
	if x := table.Find(0, maxSize/layout.ExtentSize-1); x != None {
		t.Errorf("its last part is extent %d", x)
	}
}

func TestARecordOfNoExtentOfTheDeviceIsRefusedWhoeverItIsOf(t *testing.T) {
	g, err := layout.NewGeometry(layout.MinDevice)
	if err != nil {
		t.Fatal(err)
	}
	table := New(g)
	if err := table.Restore(&layout.Replica{Key: ident.ReplicaKey{Replica: 1}, Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, replica := range []uint32{0, 5} {
		r := journal.Record{Type: journal.Write, Replica: replica, Extent: table.Len(), Blocks: 1, CRCs: make([]byte, 4)}
		if err := table.Apply(&r); !errors.Is(err, ErrInconsistent) {
			t.Errorf("of replica %d: %v", replica, err)
		}
	}
}
