// Package pki makes the certificates and kubeconfigs of the lab: one authority, and a client or server certificate for
// each component. They live as long as the lab and are made anew for each, in a few milliseconds.
package pki
