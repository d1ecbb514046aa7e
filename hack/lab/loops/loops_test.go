package loops

import "testing"

func TestDevicesOnTopOfOwnOnesAreOwnAndComeFirst(t *testing.T) {
	bottom := Device{Number: 4, FileSystem: 77}
	top := Device{Number: 5, FileSystem: 6, Behind: bottom.number()}
	highest := Device{Number: 6, FileSystem: 6, Behind: top.number()}
	other := Device{Number: 7, FileSystem: 78}
	owner := Owner{FileSystems: map[uint64]bool{77: true}, Root: "/nowhere"}
	got := owner.Of([]Device{bottom, highest, other, top})
	if len(got) != 3 || got[0] != highest || got[1] != top || got[2] != bottom {
		t.Errorf("got %+v", got)
	}
}

func TestDevicesOfAnotherInitiatorAreNobodysOrphans(t *testing.T) {
	const mine, others = "1122334455667788", "8877665544332211"
	own := Device{Number: 4, FileSystem: 77, Name: "shale:" + mine + ":aa"}
	foreign := Device{Number: 5, FileSystem: 78, Name: "shale:" + others + ":aa"}
	left := Device{Number: 6, FileSystem: 79, Name: "/var/lib/f"}
	all := []Device{own, foreign, left}
	if got := (Owner{Root: "/nowhere", Mark: MarkOf(mine)}).Of(all); len(got) != 1 || got[0] != own {
		t.Errorf("own are %+v", got)
	}
	if got := (Owner{Root: "/nowhere"}).Of(all); len(got) != 0 {
		t.Errorf("a machine without an initiator owns %+v", got)
	}
	if got := Orphans(all, nil); len(got) != 1 || got[0] != left {
		t.Errorf("orphans are %+v", got)
	}
}

func TestLineOfMountinfoNamesItsFileSystem(t *testing.T) {
	dev, ok := fileSystem("36 35 98:5 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw")
	if !ok || dev != 98<<8|5 {
		t.Errorf("got %d, %v", dev, ok)
	}
	if _, ok := fileSystem("36 35"); ok {
		t.Error("a short line names a file system")
	}
}
