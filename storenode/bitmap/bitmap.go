// Package bitmap is a set of the Blocks of an Extent, such as those that were written. It is a value: copied, it is
// another set.
package bitmap

import "math/bits"

// Blocks is how many there are in an Extent: 1 MiB of 4 KiB each.
const Blocks = 256

// Bitmap has a bit for each Block: Block i is bit i%64 of word i/64.
type Bitmap [Blocks / 64]uint64

// Has reports whether a Block is in the set.
func (b *Bitmap) Has(i int) bool { return b[i/64]>>(i%64)&1 == 1 }

// Set puts a Block into the set.
func (b *Bitmap) Set(i int) { b[i/64] |= 1 << (i % 64) }

// Clear takes a Block out of the set.
func (b *Bitmap) Clear(i int) { b[i/64] &^= 1 << (i % 64) }

// Any reports whether one of the Blocks [from, to) is in the set.
func (b *Bitmap) Any(from, to int) bool { return b.next(from, true) < to }

// Run is the end of the run that begins with a Block: of those in the set, or of those that are not.
func (b *Bitmap) Run(from int) int { return b.next(from, !b.Has(from)) }

// next is the first Block from one on that is in the set, or is not; Blocks if there is none.
func (b *Bitmap) next(from int, in bool) int {
	for from < Blocks {
		word := b[from/64]
		if !in {
			word = ^word
		}
		if word >>= from % 64; word != 0 {
			return from + bits.TrailingZeros64(word)
		}
		from = (from/64 + 1) * 64
	}
	return Blocks
}
