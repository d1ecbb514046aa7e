package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"
)

// progress is what write prints every second.
type progress struct {
	// Time of the line.
	Time time.Time `json:"time"`
	// Ready says that the run has read or prefilled everything and does its work.
	Ready bool `json:"ready"`
	// Acknowledged writes, Reads judged and Flushes done since the start.
	Acknowledged int64 `json:"acknowledged"`
	Reads        int64 `json:"reads"`
	Flushes      int64 `json:"flushes"`
	// LongestWriteMillis of one operation, and LongestGapMillis without any acknowledgement.
	LongestWriteMillis int64 `json:"longestWriteMillis"`
	LongestGapMillis   int64 `json:"longestGapMillis"`
	// RecentMillis is the longest operation that ended since the last line, or is still under way.
	RecentMillis int64 `json:"recentMillis"`
	// Error ended the run. There may be several, a line each.
	Error string `json:"error,omitempty"`
	// Ended says that this line is the last: what was under way has ended, and was judged.
	Ended bool `json:"ended,omitempty"`
}

// tally is shared by the workers.
type tally struct {
	mu       sync.Mutex
	progress progress
	last     time.Time
	// began is when each worker's operation began; zero between two.
	began []time.Time
	// failed is all that went wrong.
	failed []error
	// report gets what stdout gets, if it is not nil.
	report *os.File
}

func (t *tally) begin(worker int) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began[worker] = now
}

// end of an operation; count is the counter that it belongs to.
func (t *tally) end(worker int, count func(*progress) *int64) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.progress
	*count(p)++
	took := now.Sub(t.began[worker]).Milliseconds()
	t.began[worker] = time.Time{}
	p.LongestWriteMillis = max(p.LongestWriteMillis, took)
	p.RecentMillis = max(p.RecentMillis, took)
	p.LongestGapMillis = max(p.LongestGapMillis, now.Sub(t.last).Milliseconds())
	t.last = now
}

func (t *tally) ready() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Ready = true
}

// fail notes what went wrong and prints it at once: other operations may take long, and the process may be killed
// meanwhile.
func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = append(t.failed, err)
	t.progress.Error = errors.Join(t.failed...).Error()
	_ = t.printLocked() // the last line is printed again
}

// finish prints the last line and returns all that went wrong.
func (t *tally) finish() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Ended = true
	return errors.Join(append(t.failed, t.printLocked())...)
}

// print one line.
func (t *tally) print() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.printLocked()
}

func (t *tally) printLocked() error {
	p := &t.progress
	p.Time = time.Now()
	for _, began := range t.began {
		if !began.IsZero() {
			p.RecentMillis = max(p.RecentMillis, p.Time.Sub(began).Milliseconds())
		}
	}
	if t.report != nil {
		if err := json.NewEncoder(t.report).Encode(p); err != nil {
			return err
		}
	}
	err := json.NewEncoder(os.Stdout).Encode(p)
	p.RecentMillis = 0
	return err
}

// every prints each second until ctx ends.
func (t *tally) every(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = t.print() // nobody reads any more: the run itself goes on
		}
	}
}
