package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/hack/story"
)

// movedWithin is the promise: a StatefulSet's pod writes again so soon after its node died.
const movedWithin = 15 * time.Second

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
          args: [write, --path, /data/blocks, --log, /log/mover.log, --size, "16777216", --depth, "4", --pace, 2ms]
          volumeMounts: [{name: data, mountPath: /data}, {name: log, mountPath: /log}]
      volumes: [{name: log, hostPath: {path: %s}}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        storageClassName: shale
        accessModes: [ReadWriteOnce]
        resources: {requests: {storage: 128Mi}}
`

// deadNode pulls the plug of the node on which a StatefulSet's pod writes, and waits until it writes on another.
func deadNode(t *testing.T, place *story.Place) {
	t.Helper()
	log := place.LogDir + "/mover.log"
	_ = os.Remove(log)
	kubectl(t, place, fmt.Sprintf(stateful, place.Image, place.LogDir), "apply", "-f", "-")
	eventually(t, "the pod to write", func() (string, bool) { return writes(log, time.Now().Add(-time.Second)) })
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
	eventually(t, "the pod to write there", func() (string, bool) { return writes(log, died.Add(time.Second)) })
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
	kubectl(t, place, "", "delete", "--timeout=60s", "pod", "-l", "app=mover", "--wait")
	kubectl(t, place, "", "delete", "--timeout=60s", "pvc/data-mover-0")
}

// writes reports whether the log of acknowledged writes has grown since.
func writes(log string, since time.Time) (string, bool) {
	info, err := os.Stat(log)
	if err != nil {
		return err.Error(), false
	}
	return fmt.Sprintf("%d bytes at %s", info.Size(), info.ModTime()), info.Size() > 0 && info.ModTime().After(since)
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
