package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/shard"
)

const (
	// stalledAfter is how long a Device may finish nothing before people are told.
	stalledAfter = 2 * time.Second
	// errorMemory is how long errors of a Device are told after the last.
	errorMemory = 10 * time.Minute
	// extentBytes is what a write may need at once.
	extentBytes = 1 << 20
	// openingTime is how long readiness waits for one Device to be opened. One that is full is open by then; one that
	// hangs is not to stop the renewal of all other nodes for ever, and its Replicas are replaced elsewhere.
	openingTime = 15 * time.Minute
)

// deviceErrors is when the last error of a Device was seen.
type deviceErrors struct {
	count uint64
	at    time.Time
}

// see notes the errors counted so far, and reports whether the last is recent.
func (e *deviceErrors) see(count uint64, now time.Time) bool {
	if count > e.count {
		e.at = now
	}
	e.count = count
	return !e.at.IsZero() && now.Sub(e.at) < errorMemory
}

// healthy is the condition of a Device: the worst that is true of it.
func healthy(h shard.Health, u DeviceUsage, erroneous bool) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionFalse}
	switch {
	case h.Stalled >= stalledAfter:
		c.Reason = v1alpha1.ReasonStalled
		c.Message = "The device has work and finishes none of it"
	case erroneous:
		c.Reason = v1alpha1.ReasonIOErrors
		c.Message = fmt.Sprintf("%d operations failed since the storenode started; the last: %s", h.Errors, h.LastError)
	case u.Capacity > 0 && u.Capacity-u.Used < extentBytes:
		c.Reason = v1alpha1.ReasonFull
		c.Message = "The device has no space left; writes that need some fail"
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonHealthy
		c.Message = "The device answers, without errors, and has room"
	}
	return c
}

// startup is how far the Devices of this node have come since the process began. Safe from several goroutines.
type startup struct {
	api   client.Client
	node  string
	clock clock.PassiveClock

	mu sync.Mutex
	// looked are the Pools whose Devices have been looked at; it is complete when those of all have, for good.
	looked   map[string]bool
	complete bool
	// openings are since when Devices are tried to be opened that are not open yet; first is when that began at a path,
	// so that one whose opening fails again and again is not waited for anew each time.
	openings []time.Time
	first    map[string]time.Time
}

func newStartup(api client.Client, node string, c clock.PassiveClock) *startup {
	return &startup{api: api, node: node, clock: c, looked: map[string]bool{}, first: map[string]time.Time{}}
}

// passed notes the end of a pass over the Devices of a Pool, and the attempts that it left under way.
func (s *startup) passed(pool string, attempts map[string]attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.complete {
		s.looked[pool] = true
	}
	s.openings = s.openings[:0]
	for path, a := range attempts {
		if !a.serves {
			continue
		}
		first, ok := s.first[path]
		if !ok {
			first, s.first[path] = a.since, a.since
		}
		s.openings = append(s.openings, first)
	}
}

// ready says why Devices may still come into service by themselves. One that is missing, or cannot be opened, does not.
func (s *startup) ready(ctx context.Context) error {
	if err := s.lookedAtAll(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	opening := 0
	for _, since := range s.openings {
		if s.clock.Since(since) < openingTime {
			opening++
		}
	}
	if opening > 0 {
		return fmt.Errorf("%d devices here are being opened", opening)
	}
	return nil
}

// errNotLooked says that not all Devices have been looked at since the start.
var errNotLooked = errors.New("the devices of this node are being looked for")

// lookedAtAll says whether the first pass over all Pools has ended, those included that are gone and have Devices here.
func (s *startup) lookedAtAll(ctx context.Context) error {
	s.mu.Lock()
	complete := s.complete
	s.mu.Unlock()
	if complete {
		return nil
	}
	var pools v1alpha1.PoolList
	var devices v1alpha1.DeviceList
	if err := errors.Join(s.api.List(ctx, &pools), s.api.List(ctx, &devices)); err != nil {
		return fmt.Errorf("%w: %w", errNotLooked, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.complete { // by another who asked meanwhile
		return nil
	}
	for i := range pools.Items {
		if !s.looked[pools.Items[i].Name] {
			return fmt.Errorf("%w: pool %s", errNotLooked, pools.Items[i].Name)
		}
	}
	for i := range devices.Items {
		if d := &devices.Items[i].Spec; d.NodeName == s.node && !s.looked[d.PoolName] {
			return fmt.Errorf("%w: pool %s", errNotLooked, d.PoolName)
		}
	}
	s.complete, s.looked = true, nil
	return nil
}
