package sim_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// faults is how long damage is done in each run.
	faults = 10 * time.Second
	// seedsByDefault and seedsWhenShort are how many runs a test makes without being told.
	seedsByDefault, seedsWhenShort = 2000, 20
	// garbage is how much may gather, in percent of what lives, which is little.
	garbage = 800
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(garbage)
	m.Run()
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// runSeed is one run; a panic is a failure like others, and tells where it happened.
func runSeed(seed uint64, m *memory) (w *world, err error) {
	w = newWorld(seed, m)
	defer func() {
		if r := recover(); r != nil {
			stack := make([]byte, 8<<10)
			err = fmt.Errorf("panic: %v\n%s", r, stack[:runtime.Stack(stack, false)])
		}
		if path := os.Getenv("SIM_TRACE"); path != "" {
			_ = os.WriteFile(path, []byte(w.log.String()), 0o600)
		}
	}()
	return w, w.run(faults)
}

// failure is what a seed has found.
type failure struct {
	seed uint64
	err  error
}

var errNone = errors.New("nothing was found")

// memories are one for each goroutine that runs seeds. They are not given back.
func memories() []*memory {
	all := make([]*memory, runtime.GOMAXPROCS(0))
	for i := range all {
		all[i] = newMemory()
	}
	return all
}

// search runs seeds, several at a time, each in one goroutine and memory of its own, until all are done or one fails:
// the lowest of those that failed by then.
func search(first, seeds uint64, in []*memory) failure {
	var (
		workers sync.WaitGroup
		next    atomic.Uint64
		mu      sync.Mutex
		found   = failure{err: errNone}
	)
	for _, m := range in[:min(uint64(len(in)), seeds)] {
		workers.Go(func() {
			for {
				seed := first + next.Add(1) - 1
				mu.Lock()
				over := seed >= first+seeds || found.seed != 0
				mu.Unlock()
				if over {
					return
				}
				if _, err := runSeed(seed, m); err != nil {
					mu.Lock()
					if found.seed == 0 || seed < found.seed {
						found = failure{seed, err}
					}
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return found
}

func (f failure) String() string {
	return fmt.Sprintf("seed %d: %v\nreplay: make sim-replay SEED=%d", f.seed, f.err, f.seed)
}

func TestStorenodesLoseNothingWhateverHappens(t *testing.T) {
	otherwise := uint64(seedsByDefault)
	if testing.Short() {
		otherwise = seedsWhenShort
	}
	first, seeds := number(t, "SIM_FIRST", 1), number(t, "SIM_SEEDS", otherwise)
	if seed := number(t, "SIM_SEED", 0); seed > 0 {
		first, seeds = seed, 1
	}
	const stretch = 1000
	in := memories()
	for end := first + seeds; first < end; first += stretch {
		if found := search(first, min(stretch, end-first), in); found.seed != 0 {
			t.Fatal(found)
		}
		t.Logf("seeds below %d passed", min(first+stretch, end))
	}
}

func TestASeedAlwaysTellsTheSameStory(t *testing.T) {
	m := newMemory()
	a, err := runSeed(1, m)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := runSeed(1, m)
	if a.digest != b.digest || a.t != b.t {
		t.Errorf("two runs of one seed differ: %x at %d, %x at %d", a.digest, a.t, b.digest, b.t)
	}
}
