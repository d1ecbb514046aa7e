// Package toolbox builds the pinned tools: a whole Kubernetes, its sidecars, helm, the code generators and linters.
//
// Nothing is downloaded as a binary. Each tool is a Go program of a module below hack/tools, at the version which
// that module's go.mod pins, verified by its go.sum. There is more than one module because the tools' own
// dependencies disagree. The tools are no dependencies of Shale, and this package depends on none of them.
//
// # Cache
//
// Binaries are kept in CACHE/bin/KEY, where CACHE is $SHALE_CACHE or the user's cache directory + /shale, and KEY
// names the module and hashes what the builds of all its tools depend on: go.mod, go.sum, the Go version and the link
// flags. Tags and cgo are the tool's own; a binary says with which it was built. So a change builds anew, two checkouts
// share one set, and only a new machine pays (about ten minutes for all on two idle cores). A binary appears in the
// cache by rename; one that a power cut has left empty says nothing and is built again.
//
// # Concurrency
//
// A lock file per binary keeps two processes from doing the same work; the second says so, waits and finds it done.
package toolbox
