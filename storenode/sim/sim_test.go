package sim_test

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// faults is how long damage is done in each run.
const faults = 10 * time.Second

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

// runSeed is one run; a panic tells its seed too.
func runSeed(t *testing.T, seed uint64) (*world, error) {
	t.Helper()
	ended := false
	defer func() {
		if !ended {
			t.Logf("seed %d panicked; replay: make sim-replay SEED=%d", seed, seed)
		}
	}()
	w := newWorld(seed)
	err := w.run(faults)
	ended = true
	if path := os.Getenv("SIM_TRACE"); path != "" {
		_ = os.WriteFile(path, []byte(w.log.String()), 0o600)
	}
	return w, err
}

func TestStorenodesLoseNothingWhateverHappens(t *testing.T) {
	first, seeds := number(t, "SIM_FIRST", 1), number(t, "SIM_SEEDS", 100)
	if testing.Short() {
		seeds = min(seeds, 20)
	}
	if seed := number(t, "SIM_SEED", 0); seed > 0 {
		first, seeds = seed, 1
	}
	for seed := first; seed < first+seeds; seed++ {
		if _, err := runSeed(t, seed); err != nil {
			t.Fatalf("seed %d: %v\nreplay: make sim-replay SEED=%d", seed, err, seed)
		}
		if seed%100 == 0 {
			t.Logf("%d seeds passed", seed)
		}
	}
}

// TestSeedsThatFoundSomething keeps what the simulator has found from coming back.
func TestSeedsThatFoundSomething(t *testing.T) {
	for name, seed := range map[string]uint64{
		"a damaged Block had a good one's checksum, so a Rebuild passed it over": 2235,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := runSeed(t, seed); err != nil {
				t.Fatalf("seed %d: %v\nreplay: make sim-replay SEED=%d", seed, err, seed)
			}
		})
	}
}

func TestASeedAlwaysTellsTheSameStory(t *testing.T) {
	a, err := runSeed(t, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := runSeed(t, 1)
	if a.digest != b.digest || a.t != b.t {
		t.Errorf("two runs of one seed differ: %x at %d, %x at %d", a.digest, a.t, b.digest, b.t)
	}
}
