package main

import (
	"context"
	"encoding/json"
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
	// Error ended the run.
	Error string `json:"error,omitempty"`
}

// tally is shared by the workers.
type tally struct {
	mu       sync.Mutex
	progress progress
	last     time.Time
	// began is when each worker's operation began; zero between two.
	began []time.Time
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

// print one line; failed is what ended the run, if something did.
func (t *tally) print(failed error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.progress
	p.Time = time.Now()
	for _, began := range t.began {
		if !began.IsZero() {
			p.RecentMillis = max(p.RecentMillis, p.Time.Sub(began).Milliseconds())
		}
	}
	if failed != nil {
		p.Error = failed.Error()
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
			_ = t.print(nil) // nobody reads any more: the run itself goes on
		}
	}
}
