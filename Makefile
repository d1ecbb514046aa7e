# Shale's chores. Each recipe is a line or two; what is longer lives in hack/ as Go.
SHELL := /bin/bash
GO    ?= go
FUZZ  ?= 200000
export CGO_ENABLED := 0
export GOFLAGS     := -buildvcs=false

# A recipe puts the path in a variable first: `a=$$(…) && …` ends if the tool cannot be built, `A=$$(…) test` goes on.
TOOL     := $(GO) run ./hack/toolbox/build
# What the tests call besides Go: a C compiler for the race detector, programs that make and mount filesystems, and fio.
PACKAGES := gcc libc6-dev fio e2fsprogs xfsprogs util-linux mount iproute2

# The parts of `test` share caches, the lab's machine and two processors: one at a time, whatever -j says.
.NOTPARALLEL:

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##—— what a newcomer wants
.PHONY: test
test: packages verify lint unit race sim-mutants fuzz e2e ## everything that a change must pass
	@echo "test: all passed"

##—— parts of `make test`
.PHONY: packages verify lint unit race fuzz
packages: ## install the Debian packages that tests need and this machine lacks
	$(GO) run ./hack/debian/need $(PACKAGES)

verify: ## generated files and formatting are up to date
	$(GO) run ./hack/generate -check
	lint=$$($(TOOL) golangci-lint) && $$lint fmt --diff

lint: ## linters and the project's own rules
	lint=$$($(TOOL) golangci-lint) && $$lint run ./...
	$(GO) test ./hack/tidy

unit: ## unit, script, envtest, csi-sanity and chart tests
	assets=$$($(TOOL) -dir envtest) && helm=$$($(TOOL) helm) && \
	KUBEBUILDER_ASSETS=$$assets HELM=$$helm $(GO) run ./hack/gotest -timeout 30m ./...

CONCURRENT := ./storenode/... ./csi/... ./operator/... ./api/... ./test/verifier/...
race: ## the concurrent packages under the race detector
	assets=$$($(TOOL) -dir envtest) && \
	KUBEBUILDER_ASSETS=$$assets CGO_ENABLED=1 $(GO) run ./hack/gotest -race -short -timeout 20m $(CONCURRENT)

fuzz: ## a short run of every fuzz target (FUZZ=90000000 inputs for longer)
	$(GO) run ./hack/fuzz -inputs $(FUZZ)

##—— the simulator: whole storenodes in one goroutine, from one seed
.PHONY: sim sim-replay sim-mutants
SEEDS ?= 2000
sim: ## SEEDS=2000 seeds, from 1 on
	SIM_SEEDS=$(SEEDS) $(GO) test -count=1 -v -timeout 10h ./storenode/sim

sim-replay: ## one seed: SEED=42 (TRACE=file keeps what happened)
	SIM_SEED=$(SEED) SIM_TRACE=$(TRACE) $(GO) test -count=1 -v ./storenode/sim

sim-mutants: ## break one rule of the data plane at a time; each must be seen (a table says by which seed)
	$(GO) test -count=1 -v -timeout 1h -tags mutants -run BrokenRules ./storenode/sim ./storenode/replication

##—— a real Kubernetes of three nodes on this machine (root)
.PHONY: demo demo-down e2e chaos
demo: ## install Shale, write, kill a storenode, check every byte (KEEP=1 leaves the cluster)
	$(GO) run ./hack/demo $(if $(KEEP),-keep)

demo-down: ## end the cluster that `make demo KEEP=1` left
	$(GO) run ./hack/demo -down

e2e: ## the same story and bad input, as tests
	SHALE_E2E=1 $(GO) test -count=1 -v -timeout 30m ./test/e2e

MINUTES ?= 5
chaos: ## MINUTES=5 of faults under load, then every byte compared (SEED=42 repeats them; SAMECRC=1)
	$(GO) run ./hack/chaos -minutes $(MINUTES) $(if $(SEED),-seed $(SEED)) $(if $(SAMECRC),-same-crc)

##—— building
.PHONY: build generate fmt bench tools clean
build: ## compile everything
	$(GO) build ./...

generate: ## CRDs and deep copies from the types
	$(GO) run ./hack/generate

fmt: ## format the code
	lint=$$($(TOOL) golangci-lint) && $$lint fmt

bench: ## Shale and the disk below it in turns; ends with lines NAME SHALE RAW RATIO
	$(GO) run ./hack/bench

tools: ## build every pinned tool now (minutes, once)
	$(TOOL) envtest lab sidecars cni helm controller-gen lint

clean: ## forget test results and fuzzing inputs of the cache
	$(GO) clean -testcache -fuzzcache
