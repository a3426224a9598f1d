# make run    builds everything and runs the main job: the sandbox
# make test   what CI runs, and nothing weaker
# make help   the rest

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Nothing here speaks HTTP/2, which would be half a megabyte of each program.
TAGS    := nethttpomithttp2
BUILD   := CGO_ENABLED=0 $(GO) build -tags $(TAGS) -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"

# Through the module proxy, pinned, and not in go.mod, to which it would add 200 modules. Built once: under 2 minutes on 2 cores.
GOLANGCI_LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

FUZZTIME     ?= 10s
TEST_TIMEOUT ?= 15m
SANDBOX_ARGS ?=

.PHONY: help build run test deps fmt-check vet tidy-check lint unit systemd-test conformance bench fuzz man deb rpm release crash clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

build: ## build bin/spinecertd and bin/spinecert
	$(BUILD) -o bin/ ./cmd/...

run: build ## the main job: identities that rotate under live TLS-MA traffic, until Ctrl-C
	bin/spinecert sandbox $(SANDBOX_ARGS)

test: deps fmt-check vet tidy-check lint unit conformance ## all that CI runs, in its order

deps: ## install the programs that the tests talk to (root), or say what is missing
	@.ci/deps

fmt-check:
	@unformatted="$$(gofmt -l .)"; if [ -n "$$unformatted" ]; then \
		echo "error: not formatted by gofmt:"; echo "$$unformatted"; echo "hint: gofmt -w ."; exit 1; fi

vet:
	$(GO) vet ./...

tidy-check:
	$(GO) mod tidy -diff

unit: ## the Go tests, with the race detector
	@command -v "$$($(GO) env CC | cut -d' ' -f1)" >/dev/null || { \
		echo "error: go test -race needs a C compiler, and '$$($(GO) env CC)' is not on the PATH"; \
		echo "hint: apt-get install gcc libc6-dev"; exit 1; }
	CGO_ENABLED=1 $(GO) test -race -tags $(TAGS) -timeout $(TEST_TIMEOUT) ./...

systemd-test: ## the service in a real systemd, from the package, in the long form: about 10 minutes (root)
	CI=true SPINECERT_SYSTEM_TESTS=long $(GO) test -count=1 -timeout 40m -v ./internal/systemstory

conformance: ## NIST PKITS, BetterTLS, our hostile cases and NHS's provider matrix: docs/conformance.md
	$(GO) run ./internal/conformance

lint: ## the linters named in .golangci.yml
	$(GOLANGCI_LINT) run ./...

bench: build ## compare with nginx, HAProxy and stunnel
	$(GO) run ./bench

fuzz: ## every fuzz target for FUZZTIME each
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package"; \
		done; \
	done

man: ## write the manual pages to man/
	$(GO) run ./internal/cli/man man

RELEASE := $(GO) run ./internal/release/make -out dist -version '$(VERSION)'

deb: ## the package for Debian, in dist/; the same bits each time
	$(RELEASE) deb

rpm: ## the package for RHEL, in dist/
	$(RELEASE) rpm

release: ## both packages, an archive, the SBOM and SHA256SUMS, in dist/
	$(RELEASE) release

CRASH_RUNS ?= 10000

crash: ## request, import, publish, rollback and prune, killed and starved at random points in N=10000 runs
	SPINECERT_CRASH_RUNS=$(or $(N),$(CRASH_RUNS)) $(GO) test -count=1 -timeout 4h -run '^TestCrash' -v ./internal/crash ./internal/state

clean: ## remove what the targets above made
	rm -rf bin dist man
