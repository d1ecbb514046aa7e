package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
)

// pollEvery is how often a waiting call looks. A placement takes tenths of a second, and few calls wait at a time.
const pollEvery = 200 * time.Millisecond

// NotReadyError says why a Volume cannot be used yet, as its condition does.
type NotReadyError struct {
	Volume, Reason, Message string
	// seen is the Volume that says so; nil if it was never read.
	seen *v1alpha1.Volume
}

// Error is for people.
func (e *NotReadyError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("volume %s is not ready yet: the operator has not said anything of it", e.Volume)
	}
	return fmt.Sprintf("volume %s is not ready: %s", e.Volume, e.Message)
}

// WaitReady waits until the Volume can be used. It ends with a *NotReadyError at once if there is no room, or when ctx
// ends.
func (c *Client) WaitReady(ctx context.Context, name string) error {
	not := &NotReadyError{Volume: name}
	for {
		v, err := c.Get(ctx, name)
		switch {
		case ctx.Err() != nil:
			return not
		case err != nil:
			return err
		}
		not.seen = v
		condition := meta.FindStatusCondition(v.Status.Conditions, v1alpha1.ConditionReady)
		if condition != nil {
			if condition.Status == metav1.ConditionTrue {
				return nil
			}
			not.Reason, not.Message = condition.Reason, condition.Message
			if condition.Reason == v1alpha1.ReasonNoRoom {
				return not
			}
		}
		if !pause(ctx) {
			return not
		}
	}
}

// WaitGone waits until the Volume is no more. When ctx ends it says ErrGoing and what the deletion waits for.
func (c *Client) WaitGone(ctx context.Context, name string) error {
	waitsFor := ""
	for {
		v, err := c.Get(ctx, name)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("volume %s %w%s", name, ErrGoing, waitsFor)
		case err != nil:
			return err
		}
		if c := meta.FindStatusCondition(v.Status.Conditions, v1alpha1.ConditionReady); c != nil && c.Message != "" {
			waitsFor = ": " + c.Message
		}
		if !pause(ctx) {
			return fmt.Errorf("volume %s %w%s", name, ErrGoing, waitsFor)
		}
	}
}

// pause waits for the next look, or says that ctx has ended.
func pause(ctx context.Context) bool {
	next := time.NewTimer(pollEvery)
	defer next.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-next.C:
		return true
	}
}
