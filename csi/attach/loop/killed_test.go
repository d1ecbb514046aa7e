package loop

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/memory"
)

// childDir, when set, makes the test program the initiator that is killed: its state directory.
const childDir = "SHALE_TEST_LOOP_CHILD"

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	device, err := child(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(device + "\n")
	select {}
}

// child attaches a Volume and leaves it so.
func child(dir string) (string, error) {
	f, err := New(Options{StateDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", err
	}
	m, err := memory.New(16 << 20)
	if err != nil {
		return "", err
	}
	d, err := f.Attach(context.Background(), attach.Spec{Volume: "killed", Backend: m})
	return d.Path, err
}

func TestTheDeviceOfAKilledProcessIsCleanedUp(t *testing.T) {
	f := newFrontend(t)
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), childDir+"="+f.options.StateDir)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	path, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("child: %v", err)
	}
	path = strings.TrimSpace(path)
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	var number int
	if _, err := fmt.Sscanf(path, "/dev/loop%d", &number); err != nil {
		t.Fatal(err)
	}
	if bound, err := device(number).isBoundAs(f.nameFor("killed")); !bound || err != nil {
		t.Fatalf("%s is not left behind (%v): the test shows nothing", path, err)
	}
	if err := f.CleanUp(t.Context()); err != nil {
		t.Errorf("clean up: %v", err)
	}
	if bound, err := device(number).isBoundAs(f.nameFor("killed")); bound || err != nil {
		t.Errorf("%s is still bound (%v)", path, err)
	}
	attachMemory(t, f, "killed")
}
