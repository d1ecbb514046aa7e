// Package sim runs whole storenodes, Host, Machines and Store as they are in the product, in one goroutine from one
// seed: over memory Devices that lose power, connections that break, delay and are cut one way, clocks that drift,
// and a keeper of records that is slow, away, and told to promote the wrong Replica, late and twice.
//
// What is simulated is only what surrounds a Host: its Device (engine/mem), its Dialer and connections, its clock, and
// its Authority. Everything is an event in one queue; chance comes from the seed alone. So a failure is replayed by its
// seed:
//
//	make sim SEEDS=1000
//	make sim-replay SEED=42
//
// # What is checked
//
//   - Each read is linearizable per Block (package oracle): no acknowledged write is lost, nothing new is seen old
//
// again.
//   - Only one Primary serves: the Epoch of answered reads never goes back, in the order in which they were answered.
//   - After loss of power everywhere all that was flushed is there.
//   - After healing all requests are answered, all Replicas are InSync again, and hold the same Blocks.
//   - Memory of the pool is given back.
//
// Under the build tag `mutants` the test breaks one rule of replication at a time and expects to see it.
package sim
