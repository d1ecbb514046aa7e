// Package tidy holds the project's rules that no linter knows, as tests.
//
// Each test names the rule, and each failure the file, the line and the way out. There is nothing to import here: run
// it with `go test ./hack/tidy`, or as part of `make lint`. The rules and their reasons are in CONTRIBUTING.md.
package tidy
