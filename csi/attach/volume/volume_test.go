package volume

import (
	"errors"
	"fmt"
	"testing"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/storenode/client"
)

func TestErrorsOfOpenCarryTheCodeACallerActsOn(t *testing.T) {
	for err, want := range map[error]api.Code{
		client.ErrFenced: api.CodeFenced, client.ErrUnknownVolume: api.CodeUnknownVolume,
		client.ErrUnreachable: api.CodeUnreachable, client.ErrInvalid: api.CodeInvalid, errors.New("x"): api.CodeInternal,
	} {
		if got := codeOf(fmt.Errorf("open: %w", err)); got != want {
			t.Errorf("%v has code %s, want %s", err, got, want)
		}
	}
}

// outcome is a Completer that remembers.
type outcome struct{ got error }

func (o *outcome) RequestDone(r *attach.Request) { o.got = r.Err }

func TestAFullPoolAndAFenceReachTheFrontendAsSuch(t *testing.T) {
	for err, want := range map[error]error{
		client.ErrNoSpace: attach.ErrNoSpace, client.ErrIO: client.ErrIO, client.ErrFenced: client.ErrFenced, nil: nil,
	} {
		var o outcome
		s := &slot{outer: &attach.Request{Done: &o}}
		s.Err = err
		s.RequestDone(&s.Request)
		if !errors.Is(o.got, want) || s.outer != nil {
			t.Errorf("%v arrived as %v", err, o.got)
		}
	}
}
