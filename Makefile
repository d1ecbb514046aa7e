# Shale's chores. Each recipe is a line or two; what is longer lives in hack/ as Go.
SHELL := /bin/bash
GO    ?= go
SEEDS ?= 2000
FUZZ  ?= 5s
export CGO_ENABLED := 0
export GOFLAGS     := -buildvcs=false

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)
TOOL     := $(GO) run ./hack/toolbox/build
# What the tests call besides Go: a C compiler for the race detector, programs that make and mount filesystems, and fio.
PACKAGES := gcc libc6-dev fio e2fsprogs xfsprogs util-linux mount iproute2

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##—— what a newcomer wants
.PHONY: demo demo-down test
demo: ## a real three-node Kubernetes with Shale here: write, kill, fail over, verify (KEEP=1 leaves it)
	KEEP=$(KEEP) $(GO) run ./hack/demo

demo-down: ## end what `make demo KEEP=1` left
	$(GO) run ./hack/demo -down

test: packages verify lint unit race fuzz sim e2e ## everything that a change must pass
	@echo "test: all passed"

##—— parts of `make test`
.PHONY: packages verify lint unit race fuzz sim sim-replay e2e
packages: ## install the Debian packages that tests need and this machine lacks
	$(GO) run ./hack/debian/need $(PACKAGES)

verify: ## generated files and formatting are up to date
	$(GO) run ./hack/generate -check
	$$($(TOOL) golangci-lint) fmt --diff

lint: ## linters and the project's own rules
	$$($(TOOL) golangci-lint) run ./...
	$(GO) test ./hack/tidy

unit: ## unit, script, envtest, csi-sanity and chart tests
	KUBEBUILDER_ASSETS=$$($(TOOL) -dir envtest) HELM=$$($(TOOL) helm) $(GO) test -timeout 15m ./...

race: ## the concurrent packages under the race detector
	KUBEBUILDER_ASSETS=$$($(TOOL) -dir envtest) CGO_ENABLED=1 $(GO) test -race -short -timeout 20m ./storenode/... ./csi/... ./operator/...

fuzz: ## a short run of every fuzz target (FUZZ=1m for longer)
	$(GO) run ./hack/fuzz -time $(FUZZ)

sim: ## the cluster simulator (SEEDS=n)
	$(GO) test ./storenode/sim -run TestSimulation -count 1 -timeout 60m -sim.seeds $(SEEDS)

sim-replay: ## one seed of the simulator, told step by step (SEED=s)
	$(GO) test ./storenode/sim -run TestSimulation -count 1 -v -sim.seed $(SEED)

e2e: ## Shale on a real three-node Kubernetes
	$(GO) test -tags e2e -count 1 -timeout 30m -v ./test/e2e

##—— building
.PHONY: build images generate fmt bench tools clean
build: ## the three programs, in bin/
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/operator ./operator
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/storenode ./storenode
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/shale-csi ./csi

images: ## container images of the three programs, made here
	$(GO) run ./hack/images

generate: ## CRDs, RBAC and deep copies from the types
	$(GO) run ./hack/generate

fmt: ## format the code
	$$($(TOOL) golangci-lint) fmt

bench: ## raw disk and Shale in one go: NAME SHALE RAW RATIO
	$(GO) run ./hack/bench

tools: ## build every pinned tool now (minutes, once)
	$(TOOL) envtest lab sidecars cni helm controller-gen lint

clean: ## remove what was built in this folder
	rm -rf bin
