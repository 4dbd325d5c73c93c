# Everything a developer or an operator does with this repository. The two to
# know: make demo, make test.
GO ?= go
BIN := .bin

.PHONY: help demo test build generate lint torture siege soak bench bench-mail bench-register bench-portal profile histories fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## everything on loopback, nothing to configure; Ctrl-C ends it
	@exec $(BIN)/gatepost demo

test: ## all tests
	$(GO) test -timeout 10m ./...

build: ## the commands, into .bin
	@mkdir -p $(BIN)
	@test -x $(BIN)/gatepost || echo 'The first build takes a minute or two.'
	$(GO) build -o $(BIN)/ ./cmd/...

generate: ## everything that is derived: go.mod, formatting of the register
	$(GO) mod tidy
	$(GO) generate ./...
	$(GO) run ./cmd/gatepost fmt -C .

lint: ## gofmt, vet, staticcheck, and the register itself
	@files=$$(gofmt -l cmd internal schema); test -z "$$files" || { echo "run gofmt -w on:" $$files >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) run ./cmd/gatepost check -C .

torture: ## kill -9 the daemon under load, at any moment and at each step (minutes; KILLS=1000)
	$(GO) test -count=1 -v -timeout 60m -run TestTorture ./internal/daemon -torture=$(or $(KILLS),100)

siege: ## crowds of idle, slow and refused connections, and what they cost the others (minutes)
	$(GO) test -count=1 -v -timeout 60m -run TestSiege ./internal/daemon -siege=$(or $(SIEGE),1)

soak: ## a million messages, and the memory on the way (minutes; MESSAGES=1000000)
	$(GO) test -count=1 -v -timeout 120m -run TestSoak ./internal/daemon -soak=$(or $(MESSAGES),1000000)

bench: bench-mail bench-register ## beside Postfix, and beside git: ratios of one run (half an hour)

bench-mail: build ## mail through Gatepost and through Postfix, turn by turn (ROUNDS=3 PHASE=4s CASE=)
	$(GO) test -count=1 -v -timeout 120m -run 'TestBench' ./internal/daemon \
	  -rounds $(or $(ROUNDS),3) -phase $(or $(PHASE),4s) -case '$(CASE)' -gatepostd $(CURDIR)/$(BIN)/gatepostd

bench-register: build ## what a large register costs beside git itself (LARGE=100000 RELOADS=1000)
	$(GO) test -count=1 -v -timeout 60m -run TestLarge ./internal/register/reconcile \
	  -large $(or $(LARGE),100000) -reloads $(or $(RELOADS),1000) -gatepost $(CURDIR)/$(BIN)/gatepost

bench-portal: ## how long the portal's pages take with a large register (LARGE=100000)
	$(GO) test -count=1 -v -timeout 30m -run TestLarge ./internal/portal -large $(or $(LARGE),100000)

profile: ## where the relay's processor time goes under load (CASE=)
	@mkdir -p $(BIN)
	$(GO) test -c -o $(BIN)/daemon.test ./internal/daemon
	cd internal/daemon && GATEPOST_TEST_PROFILE=$(CURDIR)/$(BIN)/cpu.prof $(CURDIR)/$(BIN)/daemon.test -test.v -test.run TestBench \
	  -rounds 1 -phase 5s -case '$(or $(CASE),100 sessions, 4 KiB, connections kept)'
	$(GO) tool pprof -top -cum -nodecount=60 $(BIN)/daemon.test $(BIN)/cpu.prof

histories: ## made-up histories of a register, crashes and force-pushes included (FOR=10m)
	$(GO) test -count=1 -timeout 12h ./internal/register/history -for=$(or $(FOR),10m) -steps=80 -files=10000

fuzz: ## each fuzz target for a while (FUZZTIME=30s)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),30s) $$pkg || exit 1; \
	  done; done

clean: ## what make made
	rm -rf $(BIN)
