// Package definitions tests what an API server makes of the definitions in config/crd: for each rule one object that is
// accepted and one that is refused, by a message that names the field.
//
// The server is a real one, from KUBEBUILDER_ASSETS; `make unit` builds and names it.
package definitions
