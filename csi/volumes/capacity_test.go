package volumes

import (
	"math/rand/v2"
	"testing"
)

// fits says whether a Volume of size bytes fits, one Replica of each byte in a domain.
func fits(free []int64, replicas int, size int64) bool {
	var sum int64
	for _, f := range free {
		sum += min(f, size)
	}
	return sum >= int64(replicas)*size
}

func TestTheLargestVolumeFitsAndOneMoreByteDoesNot(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	for range 20_000 {
		free := make([]int64, 1+r.IntN(6))
		for i := range free {
			free[i] = r.Int64N(40)
		}
		replicas := 1 + r.IntN(4)
		got := largest(append([]int64(nil), free...), replicas)
		if got > 0 && !fits(free, replicas, got) || len(free) >= replicas && fits(free, replicas, got+1) {
			t.Fatalf("seed %d: free %v, %d replicas: got %d", seed, free, replicas, got)
		}
		if len(free) < replicas && got != 0 {
			t.Fatalf("seed %d: %d replicas in %d domains: got %d", seed, replicas, len(free), got)
		}
	}
}
