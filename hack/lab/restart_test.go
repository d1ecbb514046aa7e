package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-storage/shale/hack/lab/cgroup"
	"github.com/shale-storage/shale/hack/lab/space"
)

// longTime tells the component, a sleep, from the holder of the namespaces, which is another.
const longTime = "86399"

// machine is a machine of its own whose components are started again. It must end as a lab does, without a trace.
func machine(t *testing.T) where {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for namespaces and control groups")
	}
	group, err := cgroup.Find(fmt.Sprintf("shale-lab-restart-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := group.Kill(withoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := group.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err := group.Make(); err != nil {
		t.Fatal(err)
	}
	s, err := space.New(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	return where{space: s, dir: t.TempDir(), restart: true}
}

// sleepers are the pids of the component.
func (w where) sleepers(t *testing.T) []int {
	t.Helper()
	pids, err := processes(w.space.Group, "sleep", []string{longTime})
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// sleeper waits for the component, as another process than before.
func (w where) sleeper(t *testing.T, before int) int {
	t.Helper()
	for range 200 {
		if pids := w.sleepers(t); len(pids) == 1 && pids[0] != before {
			return pids[0]
		}
		time.Sleep(poll)
	}
	t.Fatalf("the component does not run; %s", lastLines(filepath.Join(w.dir, "sleeper.log"), toldLines))
	return 0
}

// wantOnlyHolder waits until the namespaces' holder is alone and fails if it does not stay so for longer than the pause
// before another start.
func (w where) wantOnlyHolder(t *testing.T) {
	t.Helper()
	alone := func() bool {
		pids, err := w.space.Group.Pids()
		if err != nil {
			t.Fatal(err)
		}
		return slices.Equal(pids, []int{w.space.Holder})
	}
	for began := time.Now(); !alone(); time.Sleep(poll) {
		if time.Since(began) > goneWithin {
			t.Fatal("something is left")
		}
	}
	time.Sleep(2500 * time.Millisecond)
	if !alone() {
		t.Fatal("it came back")
	}
}

func TestAComponentThatEndsComesBackUntilItIsEnded(t *testing.T) {
	w := machine(t)
	start := func() error {
		_, err := w.start(t.Context(), "sleeper", "/bin/sh", "-c", "echo I sleep; exec sleep "+longTime)
		return err
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	pid := w.sleeper(t, 0)
	for range 2 {
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		pid = w.sleeper(t, pid)
	}
	log, err := os.ReadFile(filepath.Join(w.dir, "sleeper.log"))
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Count(string(log), "lab: sleeper ended with status 143 and is started again\n")
	if said := strings.Count(string(log), "I sleep\n"); notes != 2 || said != 3 {
		t.Errorf("the log has %d notes of 2 and %d starts of 3:\n%s", notes, said, log)
	}
	if err := start(); err == nil {
		t.Error("it was started twice")
	}
	if err := w.end("sleeper"); err != nil {
		t.Fatal(err)
	}
	w.wantOnlyHolder(t)
	if err := w.end("sleeper"); err == nil {
		t.Error("what did not run was ended")
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	w.sleeper(t, 0)
}

func TestAComponentIsEndedWhileItWaitsToComeBack(t *testing.T) {
	w := machine(t)
	if _, err := w.start(t.Context(), "failing", "/bin/sh", "-c", "echo I fail; exit 1"); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(poll) {
		pids, err := processes(w.space.Group, "sleep", []string{"1"})
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) == 1 {
			break
		}
		if time.Since(began) > goneWithin {
			t.Fatal("there is no pause after a failure")
		}
	}
	if err := w.end("failing"); err != nil {
		t.Fatal(err)
	}
	w.wantOnlyHolder(t)
}

func TestAComponentEndsWithItsKeeper(t *testing.T) {
	w := machine(t)
	if _, err := w.start(t.Context(), "sleeper", "sleep", longTime); err != nil {
		t.Fatal(err)
	}
	w.sleeper(t, 0)
	text, err := os.ReadFile(w.pidFile("sleeper"))
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(keeper, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.wantOnlyHolder(t)
}
