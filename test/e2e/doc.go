// Package e2e tests Shale as its users meet it: installed by helm on a real Kubernetes of three nodes (hack/lab), with
// real pods, claims and the loss of a storenode.
//
// The tests share one cluster and run in the order of the file. They need root and minutes, so they run only with
// SHALE_E2E=1, as `make e2e` and `make test` do.
package e2e
