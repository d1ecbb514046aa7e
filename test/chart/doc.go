// Package chart tests charts/shale as helm renders it: that it lints, that the schema refuses what it should, that no
// component has rights or privileges it does not need, and that commands, sockets and selectors fit each other.
//
// The tests run the helm that the environment variable HELM names; `make unit` builds and names it.
package chart
