package storm

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAFillerThatFindsRoomFillsNothing(t *testing.T) {
	if err := wasFull(`{"bytes":475004928,"full":true}` + "\n"); err != nil {
		t.Error(err)
	}
	for _, said := range []string{`{"bytes":1073741824,"full":false}`, "", "verifier: fill from byte 7: failed"} {
		if wasFull(said) == nil {
			t.Errorf("%q passes", said)
		}
	}
}

func TestAFaultThatHitsNobodyIsNone(t *testing.T) {
	err := storenode.kill()
	if !errors.Is(err, errNobody) {
		t.Errorf("killing nobody says %v", err)
	}
	if err := storenode.pause(t.Context(), 0); !errors.Is(err, errNobody) {
		t.Errorf("pausing nobody says %v", err)
	}
	if err := unlessNobody(err); err != nil {
		t.Errorf("a second fault is not forgiven: %v", err)
	}
	if unlessNobody(unix.EIO) == nil {
		t.Error("an error is forgiven")
	}
}
