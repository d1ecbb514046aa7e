package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/hack/story"
)

// e2eDir is where the lab of the tests lives; a demo beside it is ended by neither.
const e2eDir = "/var/tmp/shale-e2e"

func TestShaleOnARealKubernetes(t *testing.T) {
	if os.Getenv("SHALE_E2E") == "" {
		t.Skip("skipped: it takes minutes and root; SHALE_E2E=1 (make e2e) runs it")
	}
	var why error
	t.Cleanup(func() {
		if why != nil { // once more at the very end: between lies all that helps to find out
			t.Logf("failed: %v", why)
		}
	})
	told := begin(t, e2eDir)
	place := told.Place
	plantForeignDevice(t, place)
	for _, step := range append(told.Steps(), told.Faults()...) {
		if !t.Run(step.Title, func(t *testing.T) {
			if err := step.Run(t.Context()); err != nil {
				why = fmt.Errorf("%s: %w", step.Title, err)
				t.Fatal(err)
			}
		}) {
			t.FailNow()
		}
	}
	t.Run("a selected Device with a filesystem is not touched and says so", func(t *testing.T) {
		foreignDevice(t, place)
	})
	t.Run("a claim with a misspelt parameter says which", func(t *testing.T) {
		refused(t, place, badClaim{"misspelt", "{pool: lab, replicsa: '3'}", "64Mi", []string{"replicsa"}})
	})
	t.Run("a claim with too many replicas says what is possible", func(t *testing.T) {
		refused(t, place, badClaim{"many", "{pool: lab, replicas: '9'}", "64Mi", []string{"replicas"}})
	})
	t.Run("a claim without room stays pending and says where room is missing", func(t *testing.T) {
		refused(t, place, badClaim{"huge", "{pool: lab, shardSize: 64Gi}", "64Gi", []string{"n2", "free of", "needed"}})
	})
	t.Run("garbage on the storenode's port closes that connection alone", func(t *testing.T) { garbage(t, place) })
	t.Run("a pod of a dead node writes on another within 15 s", func(t *testing.T) { deadNode(t, place) })
	if t.Failed() {
		return
	}
	t.Logf("summary:\n%s", told.Facts.Summary())
}

// maxStall is how long a write may take across the loss of a storenode, on a machine that does other work too; the demo
// asks for half of it.
const maxStall = 10 * time.Second

// begin starts a cluster for the length of the test; it tells what it saw when the test has failed.
func begin(t *testing.T, dir string) *story.Story {
	t.Helper()
	guard(t, dir)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	place, err := story.Start(t.Context(), story.Options{Dir: dir, Say: t.Logf, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(place.Diagnose(context.Background()))
		}
		if err := place.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &story.Story{
		Place: place, Say: t.Logf, Show: func(text string) { t.Log("\n" + text) }, MaxStall: maxStall,
	}
}

// foreign is what plantForeignDevice leaves: the signature of an ext4 filesystem, and data behind it.
func foreign() []byte {
	content := make([]byte, 64<<20)
	binary.LittleEndian.PutUint16(content[1024+0x38:], 0xEF53)
	for at := 1 << 20; at < len(content); at += 4096 {
		copy(content[at:], "precious")
	}
	return content
}

func foreignPath(t *testing.T, place *story.Place) string {
	t.Helper()
	n, err := place.Node("n1")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(n.Root(), "/var/lib/shale/devices/foreign.img")
}

// plantForeignDevice puts a file with a filesystem's signature where the Pool's selector finds it.
func plantForeignDevice(t *testing.T, place *story.Place) {
	t.Helper()
	if err := os.WriteFile(foreignPath(t, place), foreign(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func foreignDevice(t *testing.T, place *story.Place) {
	t.Helper()
	out := eventually(t, "a Device object with reason ForeignData", func() (string, bool) {
		out, err := place.Kubectl(t.Context(), nil, "get", "devices.shale.dev", "-o",
			`jsonpath={range .items[*]}{.spec.path}{" "}{.status.conditions[?(@.type=="Ready")].reason}{"\n"}{end}`)
		if err != nil {
			t.Fatal(err)
		}
		return string(out), strings.Contains(string(out), "foreign.img ForeignData")
	})
	t.Log(out)
	content, err := os.ReadFile(foreignPath(t, place))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content, foreign()) {
		t.Error("the foreign device was written to")
	}
	told := eventually(t, "the Pool to name what it refused", func() (string, bool) {
		out, err := place.Kubectl(t.Context(), nil, "get", "pools.shale.dev", "lab", "-o",
			`jsonpath={range .status.conditions[?(@.type=="DevicesAccepted")]}{.status} {.reason}: {.message}{end}`)
		if err != nil {
			t.Fatal(err)
		}
		return string(out), strings.HasPrefix(string(out), "False DevicesRefused: ") &&
			strings.Contains(string(out), "foreign.img")
	})
	t.Log(told)
}

// badClaim is a claim that cannot be had.
type badClaim struct {
	// name of the claim and of its StorageClass, which has the parameters.
	name, parameters, size string
	// names is all that the event must name.
	names []string
}

// refused makes the claim and waits for the event that says why it stays pending.
func refused(t *testing.T, place *story.Place, bad badClaim) {
	t.Helper()
	manifest := fmt.Sprintf(`
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: %[1]s}
provisioner: csi.shale.dev
parameters: %[2]s
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %[1]s}
spec:
  storageClassName: %[1]s
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: %[3]s}}
`, bad.name, bad.parameters, bad.size)
	if _, err := place.Kubectl(t.Context(), []byte(manifest), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	message := eventually(t, fmt.Sprintf("an event that names %q", bad.names), func() (string, bool) {
		out, err := place.Kubectl(t.Context(), nil, "get", "events", "-o", "jsonpath={.items[*].message}",
			"--field-selector", "involvedObject.name="+bad.name+",reason=ProvisioningFailed")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range bad.names {
			if !strings.Contains(string(out), name) {
				return string(out), false
			}
		}
		return string(out), true
	})
	t.Log(message)
	phase, err := place.Kubectl(t.Context(), nil, "get", "pvc", bad.name, "-o", "jsonpath={.status.phase}")
	if err != nil || string(phase) != "Pending" {
		t.Errorf("claim is %s, %v", phase, err)
	}
	_, err = place.Kubectl(t.Context(), nil, "delete", "--timeout=60s", "pvc/"+bad.name, "storageclass/"+bad.name)
	if err != nil {
		t.Error(err)
	}
}

func garbage(t *testing.T, place *story.Place) {
	t.Helper()
	before, err := place.Storenode("n1")
	if err != nil {
		t.Fatal(err)
	}
	n, err := place.Node("n1")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c, err := place.Dial(t.Context(), "tcp", net.JoinHostPort(n.IP(), "7800"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: shale\r\n\r\n" + strings.Repeat("x", 300))); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(make([]byte, 1)); got > 0 || err == nil || os.IsTimeout(err) {
			t.Errorf("garbage was answered with %d bytes, %v", got, err)
		}
		_ = c.Close()
	}
	if after, err := place.Storenode("n1"); err != nil || after != before {
		t.Errorf("storenode was process %d, is %d, %v", before, after, err)
	}
	eventually(t, "the storenode to count the garbage", func() (string, bool) {
		counted := metric(t, place, net.JoinHostPort(n.IP(), "7801"), "shale_storenode_bad_frames_total")
		return counted, counted != "" && counted != "0"
	})
}

// metric is what a process says of a metric without labels, empty if there is none.
func metric(t *testing.T, place *story.Place, address, name string) string {
	t.Helper()
	inLab := http.Client{Transport: &http.Transport{DialContext: place.Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := inLab.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// eventually asks until the answer is right; the failure shows the last one.
func eventually(t *testing.T, what string, ask func() (answer string, right bool)) string {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		answer, right := ask()
		if right {
			return answer
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s; the last answer was %q", what, answer)
		}
		time.Sleep(300 * time.Millisecond)
	}
}
