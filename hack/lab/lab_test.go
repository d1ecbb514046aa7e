package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shale-storage/shale/hack/lab/loops"
)

func TestThreeNodesComeUpAndGoDownWithoutTrace(t *testing.T) {
	if os.Getenv("SHALE_LAB") == "" {
		t.Skip("set SHALE_LAB=1 to run it: it needs root and the built Kubernetes, and takes half a minute")
	}
	dir := filepath.Join("/var/tmp", "shale-lab-test")
	before := traces(t, dir)
	c, err := Up(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(withoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(traces(t, dir)) {
			if !strings.Contains(before, line) {
				t.Errorf("the lab left: %s", line)
			}
		}
	})
	n := c.Nodes()[2]
	const use = "losetup --find " + SSD + " && echo kept > /var/lib/shale/f"
	if _, err := n.Exec(t.Context(), "sh", "-c", use); err != nil {
		t.Fatal(err)
	}
	if err := n.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := loops.List(); err != nil || strings.Contains(describeLoops(all), "ssd0.img") {
		t.Fatalf("loop devices outlived the node: %+v, %v", all, err)
	}
	if err := n.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := n.Exec(t.Context(), "cat", "/var/lib/shale/f"); err != nil || string(out) != "kept\n" {
		t.Fatalf("the disk has %q, %v", out, err)
	}
}

// traces is everything on the host that a lab could leave behind.
func traces(t *testing.T, dir string) string {
	t.Helper()
	all, err := loops.List()
	if err != nil {
		t.Fatal(err)
	}
	links, err := exec.CommandContext(t.Context(), "ip", "-brief", "link").Output()
	if err != nil && t.Context().Err() == nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + groupName(dir))
	if err != nil {
		t.Fatal(err)
	}
	found := describeLoops(all) + string(mounts) + strings.Join(groups, "\n")
	for line := range strings.Lines(string(links)) {
		found += strings.Fields(line)[0] + "\n"
	}
	return found
}

func describeLoops(all []loops.Device) string {
	var text strings.Builder
	for _, d := range all {
		text.WriteString(loopKey(d) + "\n")
	}
	return text.String()
}

func TestGroupNameTellsLabsApart(t *testing.T) {
	a, b := groupName("/var/tmp/shale-lab"), groupName("/tmp/shale-lab")
	if a == b || !strings.HasPrefix(a, "shale-lab-") || strings.ContainsAny(a, "/ ") {
		t.Errorf("group names %q and %q", a, b)
	}
}

func TestMountsBelowAreTheLatestFirst(t *testing.T) {
	table := "a /lab ext4 rw 0 0\nb /lab/x ext4 rw 0 0\nc /lab/x/my\\040disk ext4 rw 0 0\nd /labor ext4 rw 0 0\n"
	got := strings.Join(mountsBelow(table, "/lab"), "|")
	if want := "/lab/x/my disk|/lab/x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMountScriptSharesMountsOnlyAfterBinding(t *testing.T) {
	script := strings.Split(mountScript("n1", "/lab/n1/root"), "\n")
	for i, line := range script {
		if strings.Contains(line, "make-rshared") && i != len(script)-1 {
			t.Errorf("line %d shares mounts before the last is bound", i+1)
		}
	}
}

func TestDirectoryOfSomebodyElseIsNotClaimed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := claim(dir); err == nil {
		t.Error("a directory with a file of somebody else became a lab's")
	}
}

func TestALabInUseIsNotEnded(t *testing.T) {
	dir := t.TempDir()
	user, err := take(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Give()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if err := Down(ctx, dir, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("another command ended it: %v", err)
	}
}

func TestEndOfALogIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := lastLines(path, 2)
	if strings.Contains(got, "one") || !strings.Contains(got, "three") || !strings.Contains(got, path) {
		t.Errorf("told %q", got)
	}
}

func TestAProgramIsToldByNameAndWords(t *testing.T) {
	const line = "/usr/local/bin/shale-csi\x00controller\x00--socket=/x\x00"
	if !isProgram(line, "shale-csi", []string{"controller"}) {
		t.Error("it was not found")
	}
	if isProgram(line, "shale-csi", []string{"initiator"}) || isProgram(line, "csi", nil) || isProgram("", "csi", nil) {
		t.Error("another was taken for it")
	}
}

func TestANodeThatIsSwitchedOnHasAnotherBoot(t *testing.T) {
	n := &Node{Name: "n1", Index: 1, cluster: &Cluster{Dir: t.TempDir()}}
	file := filepath.Join(n.Root(), BootID)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	boot := func() string {
		if err := n.drawBootID(); err != nil {
			t.Fatal(err)
		}
		id, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(id)
	}
	if one, other := boot(), boot(); one == other || len(one) < 16 {
		t.Errorf("boots are %q and %q", one, other)
	}
	if path, seen := strings.CutPrefix(BootID, "/var/lib/shale/"); !seen || strings.HasPrefix(path, "devices/") {
		t.Errorf("%s is not where the storenode sees it, or where a Pool may", BootID)
	}
}
