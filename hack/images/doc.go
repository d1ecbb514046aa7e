// Package images builds Shale's container images, and those of its sidecars, into archives, without a registry.
//
// The targets stand in the Dockerfile at the top of the checkout and in lab.Dockerfile. buildah, a Debian package,
// builds them as root with chroot isolation. What a Dockerfile elsewhere would pull is made here: the base by
// mmdebstrap from Debian packages, the binaries by the Go compiler of this machine. Names are those that the chart's
// values.yaml asks for, so a chart installs with its defaults.
//
// # Cache
//
// Everything is kept in images/ of the toolbox's cache. The base is named by a hash of its recipe, an archive by a
// hash of its Dockerfile, base and binaries, so a second build costs what `go build` takes to see that nothing
// changed. Archives appear by rename. One that is not the newest of its image stays for a day after its last use:
// another checkout, or a lab that comes up, may be about to import it.
//
// # Concurrency
//
// A lock file lets one process build at a time; another says so and waits.
package images
