package ident

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestAUUIDComesBackFromItsText(t *testing.T) {
	want := UUID{0xde, 0xad, 15: 1}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `"dead0000-0000-0000-0000-000000000001"` {
		t.Fatalf("text is %s, %v", text, err)
	}
	var got UUID
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestWhatIsNoUUIDIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "dead", "dead0000-0000-0000-0000-00000000000g", "dead0000+0000-0000-0000-000000000001",
		"dead0000-0000-0000-0000-0000000000011", "------------------------------------",
	} {
		if u, err := ParseUUID(text); !errors.Is(err, ErrUUID) {
			t.Errorf("%q is read as %s, %v", text, u, err)
		}
	}
}
