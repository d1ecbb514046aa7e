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

func TestLineOfMountinfoNamesItsFileSystem(t *testing.T) {
	dev, ok := fileSystem("36 35 98:5 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw")
	if !ok || dev != 98<<8|5 {
		t.Errorf("got %d, %v", dev, ok)
	}
	if _, ok := fileSystem("36 35"); ok {
		t.Error("a short line names a file system")
	}
}
