# Shale's chores. Each recipe is one line; what is longer lives in hack/ as Go.
SHELL := /bin/bash
GO    ?= go
export CGO_ENABLED := 0

TOOLS   = $(GO) run ./hack/tools/build
ENVTEST = KUBEBUILDER_ASSETS=$$($(TOOLS) -dir envtest)
PURE_FUZZ_SECONDS ?= 5
SEEDS   ?= 2000
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS = -s -w -X main.version=$(VERSION)

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##—— what a newcomer wants
.PHONY: demo demo-down test
demo: ## a real three-node Kubernetes with Shale on this machine, failed over and checked (KEEP=1 leaves it)
	$(GO) run ./hack/demo

demo-down: ## end what `make demo KEEP=1` left
	$(GO) run ./hack/demo -down

test: ## everything that a change must pass
	$(GO) run ./hack/ci
