package store_test

import (
	"errors"
	"math/rand/v2"

	"github.com/shale-storage/shale/storenode/engine/mem"
	"github.com/shale-storage/shale/storenode/store"
)

// whims are what the Device of a seed does besides what it must, each in half of the seeds. They are drawn apart, so
// that a seed's story is otherwise what it was.
func whims(seed uint64) mem.Whims {
	chance := rand.New(rand.NewPCG(seed, 8))
	return mem.Whims{
		Chance: chance, Early: chance.IntN(2) == 0, Discards: chance.IntN(2) == 0, Unreadable: chance.IntN(2) == 0,
	}
}

// isTorn reports whether a read failed as it may where a loss of power met a write.
func isTorn(err error) bool {
	return errors.Is(err, store.ErrCorruption) || errors.Is(err, mem.ErrUnreadable)
}
