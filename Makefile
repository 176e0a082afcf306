# nbidentityd. `make help` lists the targets; CONTRIBUTING.md says when to run which.

GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
BUILD        = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
PROGRAMS     = nbidentityd nbidentity fakeaws
FUZZTIME    ?= 10s
FUZZ        ?= .
JOBS        ?= 1
SOAK        ?= 1m
RUNS        ?= 1000
IDLE        ?= 2m
RECORDS     ?= 100000
# A test process under the race detector otherwise sleeps a second at its end.
export GORACE = atexit_sleep_ms=1

.PHONY: help build whoami hello demo test race check fmt vet staticcheck shellcheck tidy interop adversary faults soak dist dist-check boot-test bench who-accuracy doctor browser athena fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the programs into bin/
	@mkdir -p bin
	@for p in $(PROGRAMS); do $(BUILD) -o bin/$$p ./cmd/$$p || exit 1; done

whoami: build
	@$(BUILD) -o bin/whoami ./internal/lab/whoami

demo: whoami ## see an AWS call change its name, against an AWS of our own on loopback
	@$(GO) run ./internal/lab/demo -bin bin

test: ## the tests that need nothing but Go; others are skipped by name, with the reason
	$(GO) test -timeout 30m ./...

race: ## the tests under the race detector
	$(GO) test -race -timeout 30m ./...

check: fmt vet staticcheck shellcheck tidy race ## what must be clean before a commit

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt these:"; echo "$$out"; exit 1; }

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

shellcheck:
	@if command -v shellcheck >/dev/null; then shellcheck $$(git ls-files '*.sh' .ci/run); \
	else echo "shellcheck: skipped: the program shellcheck is not installed"; fi

tidy:
	$(GO) mod tidy -diff

interop: whoami ## real clients in a real kernel, in a network namespace (root; installs what it needs)
	@$(GO) run ./internal/lab/interop -bin bin

adversary: whoami ## a hostile user against a real daemon, fence and clients (root; installs what it needs)
	@$(GO) run ./internal/lab/adversary -bin bin

dist: ## what is released: deb, rpm and tar.gz for both architectures, SBOM, checksums, in dist/ (VERSION=1.2.3)
	@$(GO) run ./packaging/dist -version "$(VERSION)" -o dist

dist-check: ## the same, twice, and not a byte may differ; then lint, install and remove it in clean roots (root)
	@$(GO) run ./packaging/dist -version "$(VERSION)" -o dist -twice
	NBIDENTITYD_DIST=$(CURDIR)/dist $(GO) test -count=1 -run '^TestDist' ./packaging/dist

soak: whoami ## faults at random under 100 clients for SOAK: nothing may grow
	@$(GO) run ./internal/lab/faults -bin bin -soak $(SOAK) $(if $(SEED),-seed $(SEED))

faults: whoami ## everything under the notebook fails, in turn (some trials need root)
	@$(GO) run ./internal/lab/faults -bin bin

boot-test: build ## the real packages and lifecycle scripts on whole machines in containers (root; keeps an image under /var/cache)
	@$(GO) run ./packaging/dist -arch "$$($(GO) env GOARCH)" -version 1.0.0 -o bin/packages/old
	@$(GO) run ./packaging/dist -arch "$$($(GO) env GOARCH)" -version 1.0.1 -o bin/packages/new
	@$(BUILD) -o bin/boot ./internal/lab/boot
	@bin/boot -bin bin -old bin/packages/old -new bin/packages/new

hello: build
	@for p in hello bare; do $(BUILD) -o bin/$$p ./internal/lab/bench/$$p || exit 1; done

bench: hello ## what the daemon costs, and who on a trail of RECORDS; one line a figure (SVG=docs/bench.svg)
	@{ $(GO) run ./internal/lab/bench -bin bin -runs $(RUNS) && $(GO) run ./internal/lab/bench/growth -bin bin -runs $(RUNS) \
	    && $(GO) run ./internal/lab/bench/notebook -bin bin -idle $(IDLE) && $(GO) run ./internal/lab/bench/trail -bin bin -records $(RECORDS) || echo "bench: failed"; } \
	  | $(GO) run ./internal/lab/bench/picture -o "$(SVG)"

who-accuracy: ## what nbidentityd who gets right, by the kind of evidence (RECORDS=100000)
	@out=$$(NBIDENTITYD_TRAIL_RECORDS=$(RECORDS) $(GO) test -count=1 -run '^TestAccuracy$$' -v -timeout 30m ./internal/trail/trailgen) \
	  || { echo "$$out"; exit 1; }; echo "$$out" | sed -n '/^ *rung /,/^ *who: /s/^ *//p'

browser: ## the page of nbidentityd who --html in headless Chromium
	@c=$$(command -v chromium) || { echo "browser: skipped: the program chromium is not installed"; [ -z "$$CI" ]; exit; }; \
	  NBIDENTITYD_CHROMIUM=$$c $(GO) test -count=1 -run '^TestInABrowser$$' -v ./internal/trail/report

athena: ## the queries of nbidentityd who --athena in DuckDB and Trino's parser (installs both)
	@internal/trail/athena/engines.sh

doctor: ## what doctor finds in set-ups that were broken for real, and whether its remedies mend them
	@out=$$($(GO) test -count=1 -v -run '^TestSetUps$$' ./internal/doctor) || { echo "$$out"; exit 1; }; echo "$$out" | grep '^doctor:'

fuzz: ## every fuzz target for FUZZTIME, JOBS at a time; FUZZ=REGEXP of "./package Target" chooses. A finding stays under testdata/fuzz, all else in Go's cache
	@git grep -o '^func Fuzz[A-Za-z0-9]*' -- '*_test.go' | sed 's|^\(.*\)/[^/]*:func \(.*\)|./\1 \2|' | grep -E '$(FUZZ)' \
	  | xargs -P $(JOBS) -n 2 sh -c 'out=$$($(GO) test -run "^$$" -fuzz "^$$2$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10s -parallel 1 $$1 2>&1); code=$$?; \
	    echo "$$1 $$2: $$(echo "$$out" | sed -n "s/.*execs: \([0-9]*\).*/\1 tries/p" | tail -n 1)"; [ $$code = 0 ] || { echo "$$out"; exit 255; }' fuzz

clean: ## remove what the targets above made
	rm -rf bin dist
