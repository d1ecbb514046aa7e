package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/hack/story"
)

// movedWithin is the promise: a StatefulSet's pod writes again so soon after its node died.
const movedWithin = 15 * time.Second

func TestAWriterThatFailsDoesNotWrite(t *testing.T) {
	since := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	at := func(second int, rest string) string {
		return fmt.Sprintf(`{"time":"2026-11-26T12:00:%02dZ",%s}`+"\n", second, rest)
	}
	const writing = `"ready":true,"acknowledged":7`
	for name, c := range map[string]struct {
		report        string
		right, failed bool
	}{
		"nothing yet":                {"", false, false},
		"only before":                {`{"time":"2026-11-26T11:59:59Z",` + writing + `}`, false, false},
		"opened, and still reading":  {at(1, `"ready":false,"acknowledged":0`), false, false},
		"ready, and writes nothing":  {at(1, `"ready":true,"acknowledged":0`), false, false},
		"writes":                     {at(1, writing), true, false},
		"found a loss and goes on":   {at(1, `"error":"LOST: block 7"`) + at(2, writing), false, true},
		"failed and was started":     {at(1, `"error":"input/output error"`) + at(2, writing), false, true},
		"failed with its node":       {`{"time":"2026-11-26T11:59:59Z","error":"EIO"}` + "\n" + at(2, writing), true, false},
		"lost before, and goes on":   {`{"time":"2026-11-26T11:59:59Z","error":"LOST"}` + "\n" + at(2, writing), false, true},
		"half a line, then it works": {`{"time":"2026-` + "\n" + at(2, writing), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, right, err := judge(c.report, since); right != c.right || (err != nil) != c.failed {
				t.Errorf("it is said to write: %t, %v", right, err)
			}
		})
	}
}

// TestPodOfADeadNodeAlone plays deadNode on a lab of its own, to measure it without the rest of the story.
func TestPodOfADeadNodeAlone(t *testing.T) {
	dir := os.Getenv("SHALE_E2E_DEADNODE")
	if dir == "" {
		t.Skip("skipped: the story of TestShaleOnARealKubernetes has it; SHALE_E2E_DEADNODE=DIR plays it alone in DIR")
	}
	told := begin(t, dir)
	if err := told.Steps()[0].Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		deadNode(t, told.Place)
	}
}

// stateful is a StatefulSet whose pod writes to its Volume all the time.
const stateful = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mover}
spec:
  serviceName: mover
  replicas: 1
  selector: {matchLabels: {app: mover}}
  template:
    metadata: {labels: {app: mover}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: verifier
          image: %s
          imagePullPolicy: Never
          command: [/usr/local/bin/verifier]
          args: [write, --path, /data/blocks, --log, /log/mover.log, --report, /log/mover.report, --prefill,
            --size, "4194304", --depth, "4", --pace, 2ms]
          volumeMounts: [{name: data, mountPath: /data}, {name: log, mountPath: /log}]
      volumes: [{name: log, hostPath: {path: %s}}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        storageClassName: shale
        accessModes: [ReadWriteOnce]
        resources: {requests: {storage: 128Mi}}
`

// checker compares every Block that the StatefulSet's pods wrote.
const checker = `
apiVersion: v1
kind: Pod
metadata: {name: mover-check}
spec:
  restartPolicy: Never
  containers:
    - name: verifier
      image: %s
      imagePullPolicy: Never
      command: [/usr/local/bin/verifier]
      args: [check, --path, /data/blocks, --log, /log/mover.log]
      volumeMounts: [{name: data, mountPath: /data}, {name: log, mountPath: /log}]
  volumes:
    - {name: data, persistentVolumeClaim: {claimName: data-mover-0}}
    - {name: log, hostPath: {path: %s}}
`

// deadNode pulls the plug of the node on which a StatefulSet's pod writes, and waits until it writes on another, having
// found there all that the first had acknowledged.
func deadNode(t *testing.T, place *story.Place) {
	t.Helper()
	report := place.LogDir + "/mover.report"
	_, _ = os.Remove(report), os.Remove(place.LogDir+"/mover.log")
	began := time.Now()
	kubectl(t, place, fmt.Sprintf(stateful, place.Image, place.LogDir), "apply", "-f", "-")
	eventually(t, "the pod to write", func() (string, bool) { return writes(t, report, began) })
	from := nodeOf(t, place)
	n, err := place.Node(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	died := time.Now()
	eventually(t, "the pod to run on another node", func() (string, bool) {
		to := nodeOf(t, place)
		return to, to != "" && to != from
	})
	ended := time.Since(died)
	eventually(t, "the pod to write there", func() (string, bool) { return writes(t, report, died.Add(time.Second)) })
	moved := time.Since(died)
	t.Logf("node %s died; the pod was placed on %s after %s and wrote after %s", from, nodeOf(t, place),
		ended.Round(10*time.Millisecond), moved.Round(10*time.Millisecond))
	t.Log(kubectl(t, place, "", "get", "events", "-A", "--field-selector", "reason=NodeDead"))
	if moved > movedWithin {
		t.Errorf("the pod wrote %s after its node died, want within %s", moved, movedWithin)
	}
	if err := n.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the taint to go", func() (string, bool) {
		taints := kubectl(t, place, "", "get", "node", from, "-o", "jsonpath={.spec.taints[*].key}")
		return taints, !strings.Contains(taints, "shale.dev/")
	})
	kubectl(t, place, "", "delete", "--timeout=60s", "statefulset/mover")
	kubectl(t, place, "", "delete", "--timeout=60s", "pod", "-l", "app=mover", "--wait", "--ignore-not-found")
	if told, right := writes(t, report, died); !right {
		t.Errorf("at its end the pod said %s", told)
	}
	kubectl(t, place, fmt.Sprintf(checker, place.Image, place.LogDir), "apply", "-f", "-")
	eventually(t, "the verdict on every Block", func() (string, bool) {
		phase := kubectl(t, place, "", "get", "pod/mover-check", "-o", "jsonpath={.status.phase}")
		return phase, phase == "Succeeded" || phase == "Failed"
	})
	verdict := kubectl(t, place, "", "logs", "pod/mover-check")
	t.Logf("every Block compared: %s", verdict)
	if phase := kubectl(t, place, "", "get", "pod/mover-check", "-o", "jsonpath={.status.phase}"); phase != "Succeeded" {
		t.Errorf("the check is %s: %s", phase, verdict)
	}
	kubectl(t, place, "", "delete", "--timeout=60s", "pod/mover-check", "pvc/data-mover-0")
}

// line of a report; see test/verifier.
type line struct {
	Time         time.Time `json:"time"`
	Ready        bool      `json:"ready"`
	Acknowledged int64     `json:"acknowledged"`
	Error        string    `json:"error"`
}

// writes reports whether a verifier that reports there has read all that was left to it and writes, since then.
func writes(t *testing.T, report string, since time.Time) (string, bool) {
	t.Helper()
	content, err := os.ReadFile(report)
	if err != nil {
		return err.Error(), false
	}
	told, right, err := judge(string(content), since)
	if err != nil {
		t.Fatal(err)
	}
	return told, right
}

// judge tells from a report whether its writer has written since a moment: the last line says so. An error is a lost
// write at any moment, or any failure since: the pod of a StatefulSet is started again, and would hide it.
func judge(report string, since time.Time) (told string, right bool, err error) {
	var last line
	for text := range strings.Lines(report) {
		var l line
		if json.Unmarshal([]byte(text), &l) != nil {
			continue // half written, by one that was killed or that writes it now
		}
		if l.Error != "" && (l.Time.After(since) || strings.Contains(l.Error, "LOST")) {
			return "", false, fmt.Errorf("the verifier failed: %s", l.Error)
		}
		told, last = text, l
	}
	return told, last.Time.After(since) && last.Ready && last.Acknowledged > 0, nil
}

func nodeOf(t *testing.T, place *story.Place) string {
	t.Helper()
	out, err := place.Kubectl(t.Context(), nil, "get", "pod", "mover-0", "--ignore-not-found",
		"-o", "jsonpath={.spec.nodeName}")
	if err != nil {
		return "" // between two pods
	}
	return string(out)
}

func kubectl(t *testing.T, place *story.Place, manifest string, args ...string) string {
	t.Helper()
	out, err := place.Kubectl(t.Context(), []byte(manifest), args...)
	if err != nil {
		t.Fatalf("kubectl %v: %v", args, err)
	}
	return string(out)
}
