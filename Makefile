# Modules in dependency order: tidy must visit a module after those it imports.
MODULES := proto internal agent controller ctl e2e
# Relative, so that a checkout in a path with a space in it works.
BIN := .bin

BUF_VERSION           := v1.75.0
GOLANGCI_LINT_VERSION := v2.15.0
PROTOC_GEN_GRPC       := v1.6.2
VERSITYGW_VERSION     := v1.8.0
# The last one there is; it is run by tests and never linked.
MINIO_VERSION         := v0.0.0-20260212201848-7aac2a2c5b7c

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
VERSION_PKG := github.com/tuskvault/tuskvault/internal/version
LDFLAGS  := -s -w -X $(VERSION_PKG).version=$(VERSION)

# The whole takes longest and waits most: it begins first, and the rest runs beside it.
TEST_ORDER := $(patsubst %,./%/...,e2e agent controller ctl internal proto)

# Where the tests and the demo must not quietly skip what they prove.
TEST_ENV := REQUIRE_SERVICES=1

export GOTOOLCHAIN := local

.DEFAULT_GOAL := help
.PHONY: help build demo test test-long check lint generate tidy bench bench-index golden fuzz postgres majors regression versitygw minio clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build the three programs into bin/
	@mkdir -p bin
	CGO_ENABLED=0 GOWORK=off go build -C agent      -trimpath -ldflags '$(LDFLAGS)' -o ../bin/ ./cmd/tuskvault-agent
	CGO_ENABLED=0 GOWORK=off go build -C controller -trimpath -ldflags '$(LDFLAGS)' -o ../bin/ ./cmd/tuskvault-controller
	CGO_ENABLED=0 GOWORK=off go build -C ctl        -trimpath -ldflags '$(LDFLAGS)' -o ../bin/ ./cmd/tuskctl

demo: postgres build ## Back up and restore a throw-away PostgreSQL, end to end; leaves nothing behind
	@go run ./e2e/cmd/demo -bin "$(CURDIR)/bin"

test: postgres regression versitygw ## Run every module's tests (under 10 minutes on two cores)
	$(TEST_ENV) go test -race -shuffle=on -timeout 25m $(TEST_ORDER)

test-long: postgres majors versitygw minio ## The tests that take minutes: crash loops, large data, every PostgreSQL major
	.ci/regression 13 14 15 16 17 18
	$(TEST_ENV) TUSKVAULT_LONG=1 TUSKVAULT_PG_MAJORS="$$(.ci/majors --print)" go test -race -timeout 120m work

majors: ## Install PostgreSQL 13 to 18 side by side into .cache/pg, without touching the host
	@.ci/majors

bench: postgres build ## Measure beside pg_dump and pg_restore, in one run, as ratios
	@go run ./e2e/cmd/bench -bin "$(CURDIR)/bin"

bench-index: ## Index and check at 10^5, 10^6 and 10^7 chunks: time, memory, answers a second (15 minutes, 6 GB of disk)
	TUSKVAULT_LONG=1 TUSKVAULT_SPEED=1 go test -count=1 -v -timeout 60m -run 'ManyChunks|NumberOfChunks' ./internal/index ./internal/check

golden: ## Write the golden repository of this format, once: fails if there is one
	TUSKVAULT_MAKE_GOLDEN=1 go test -count=1 -v -run '^TestMakeGolden$$' ./internal/repo/formatdoc

fuzz: ## Fuzz every parser for FUZZTIME (default 30s) each
	@for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' $(MODULES)); do d=$$(dirname "$$f"); \
	  for t in $$(grep -ohE '^func Fuzz[A-Za-z0-9_]+' "$$f" | cut -c6-); do \
	    echo "fuzz $$d $$t"; go test "./$$d" -run '^$$' -fuzz "^$$t\$$" -fuzzminimizetime 10x -fuzztime $${FUZZTIME:-30s} || exit 1; done; done

lint: $(BIN)/golangci-lint $(BIN)/buf ## Lint Go and protobuf
	go vet work
	"$(CURDIR)/$(BIN)/golangci-lint" run $(MODULES:%=./%/...)
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code

generate: $(BIN)/buf $(BIN)/protoc-gen-go $(BIN)/protoc-gen-go-grpc ## Regenerate the protobuf code
	PATH="$(CURDIR)/$(BIN):$$PATH" buf generate
	PATH="$(CURDIR)/$(BIN):$$PATH" buf generate --template buf.gen.catalog.yaml

tidy: ## Bring every go.mod, go.sum and go.work.sum in line
	rm -f go.work.sum
	go work sync
	@for m in $(MODULES); do echo "tidy $$m"; (cd $$m && GOWORK=off go mod tidy) || exit 1; done
	go mod download

check: ## What CI runs: generated code current, modules tidy, each builds alone, lint clean, nothing changed
	@.ci/unchanged before
	@$(MAKE) --no-print-directory tidy generate
	@.ci/unchanged after
	@for m in $(MODULES); do echo "alone $$m"; (cd $$m && GOWORK=off go vet ./...) || exit 1; done
	@$(MAKE) --no-print-directory lint
	@.ci/unchanged after

postgres: # PostgreSQL for tests and demo: there, installed now, or the one command that installs it
	@.ci/postgres

regression: postgres # the database of PostgreSQL's own test suite, made once
	@.ci/regression --try host

versitygw: $(BIN)/versitygw # the S3 server of the tests

minio: $(BIN)/minio # another one, for the long tests

clean: ## Remove what was built
	rm -rf bin .bin .cache

$(BIN)/buf: Makefile
	GOBIN="$(CURDIR)/$(BIN)" go install github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION)
	@touch $@
$(BIN)/golangci-lint: Makefile
	GOBIN="$(CURDIR)/$(BIN)" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@touch $@
$(BIN)/protoc-gen-go: proto/go.mod
	GOWORK=off go build -C proto -o ../$@ google.golang.org/protobuf/cmd/protoc-gen-go
$(BIN)/protoc-gen-go-grpc: Makefile
	GOBIN="$(CURDIR)/$(BIN)" go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GRPC)
	@touch $@
$(BIN)/versitygw: Makefile
	GOBIN="$(CURDIR)/$(BIN)" go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)
	@touch $@
$(BIN)/minio: Makefile
	GOBIN="$(CURDIR)/$(BIN)" go install github.com/minio/minio@$(MINIO_VERSION)
	@touch $@
