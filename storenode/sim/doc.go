// Package sim runs whole storenodes, Host, Machines and Store as they are in the product, in one goroutine from one
// seed: over memory Devices that lose power, rot, fail, get full, are slow, and hang, some for reads only, and that
// have the whims of real ones in half of the runs each (mem.Whims); connections that break, delay, double and are cut
// one way, those of clients too; clients that tell of a Primary they cannot reach, rightly or not, and of which some
// have as much in flight as they may; clocks that drift up to the bound; processes that hand over and close their
// Device before they end; attachments that are replaced and go on; Replicas that are replaced on a spare node, and
// come back; nodes that are short of memory; and a keeper of records that is slow, away, and told to promote the
// wrong Replica, late and twice, and that is restored from a backup in the end.
//
// What is simulated is only what surrounds a Host: its Device (engine/mem), its Dialer and connections, its clock, and
// its Authority. Everything is an event in one queue; chance comes from the seed alone. So a failure is replayed by its
// seed:
//
//	make sim SEEDS=2000
//	make sim-replay SEED=42
//
// Seeds are independent, and run on all cores. A seed tells its story only as long as the simulator draws the same
// numbers in the same order, so what one has found is kept by a test of the package at fault as well.
//
// # What is checked
//
//   - Each read is linearizable per Block, twice: by package oracle over the whole run, and by porcupine, which knows
//     nothing of versions, over the beginning of each Block's history. No acknowledged write is lost, nothing new is
//     seen old again, and no byte is other than it was written, though Blocks rot.
//   - Only one Primary serves: the Epoch of answered reads never goes back, in the order in which they were answered.
//   - No change is acknowledged that fewer Replicas than the Volume asks for had in sync; it asks for one or two.
//   - When an attachment has opened a Shard, none of an older generation is acknowledged there or seen any more, and
//     the Devices of all in sync remember the generation.
//   - Nobody is evicted who has been well, and heard, for seconds, whatever is wrong with the Primary's own Device.
//   - A Replica's Epoch never goes back in the life of a process, nor Committed in a reign.
//   - A Device that is opened again remembers the Epochs and generations that it did when its process ended, after a
//     loss of power those it was opened with before; no Replica is gone, and none is back that was deleted.
//   - After loss of power everywhere all that was flushed is there, and what was not touched since can be read.
//   - After healing all requests are answered, the Replicas that the record names are InSync again, hold the same
//     Blocks, and can read them; those that were replaced are gone.
//   - Memory of the pool is given back.
//
// # What limits the damage
//
// Nothing that the fault model lists under "not survived" is done, or else it is remembered that it was: power is not
// lost where only unflushed copies would be left, as far as the Replicas themselves remember, unless everywhere at
// once; Blocks rot on one node in a run, and while that one is alone in sync reads may fail, though never lie.
//
// Under the build tag `mutants` the test breaks one rule at a time (package mutant) and expects to see it within 2000
// seeds; make sim-mutants prints by which seed.
package sim
