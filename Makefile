# redis-proxy: `make run` runs it, `make test` tests it. Both need nothing installed before: see scripts/deps.

# Where rustup puts cargo, for a shell that was opened before.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

CARGO ?= cargo

.DEFAULT_GOAL := help
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
CLUSTER_STACK = $(COMPOSE) --project-name redis-proxy-cluster --file compose.cluster.yaml
# A stack of its own, on free ports: it disturbs no other and leaves nothing behind.
TEST_STACK = CAPACITY=10 GLOBAL_EXPIRY=2s PORT=0 ADMIN_PORT=0 RESP_PORT=0 $(COMPOSE) --project-name redis-proxy-test --profile test

.PHONY: help deps build deb run stop test schedules lint fmt soak bench bench-cache instructions up up-cluster down logs test-compose

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16
	@echo
	@echo "Settings are environment variables or lines of .env (see .env.example): PORT=8080 make run"

deps: ## install what is missing (Debian; elsewhere: say what to install)
	@scripts/deps

build: deps ## build target/release/redis-proxy
	$(CARGO) build --release --locked

deb: build ## build target/debian/redis-proxy_VERSION_ARCH.deb: the program, a systemd service, its settings
	@scripts/deb

run: build ## run the proxy on port 5000, with a Redis of its own unless an address is set
	@exec scripts/run

stop: ## end the proxy that `make run` started
	@scripts/stop

# Tests that could not try what they are for, a line each.
test: export NOT_RUN = $(CURDIR)/target/not-run.txt
test: deps ## run all tests; needs neither root nor Docker
	@mkdir -p target && : >$(NOT_RUN)
	$(CARGO) test --workspace --locked --no-fail-fast -- --quiet
	@$(MAKE) --no-print-directory schedules
	@cat $(NOT_RUN) && echo "$$(wc -l <$(NOT_RUN)) tests not run"

# A build of its own: `redis-proxy/shuttle` makes every lock one of shuttle's. `cache` and `upstream` are named only so
# that the libraries are built as above, and not once more.
schedules: ## explore the orders in which the threads at a link can meet; part of `make test`
	$(CARGO) test --locked -p redis-proxy -p cache -p upstream --features redis-proxy/shuttle --lib $(or $(ONLY),schedules) -- --quiet

lint: ## check formatting, run clippy and cargo-deny (if installed)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check; \
	else echo "cargo-deny is not installed: licences and advisories are not checked"; fi

fmt: ## format the code
	$(CARGO) fmt --all

soak: export SOAK ?= 1
soak: export FUZZ_CASES ?= 1000000
soak: export PROPTEST_CASES ?= 20000
soak: export SERVERS_REQUIRED ?= 1
soak: export CLIENTS_REQUIRED ?= 1
soak: ## run the tests for longer, with many more random cases
	@scripts/deps soak
	$(CARGO) test --workspace --locked --release --no-fail-fast -- --include-ignored
	@$(MAKE) --no-print-directory schedules

up: ## build and start the container stack: a Redis, and the proxy on 127.0.0.1:5000 and 6380
	$(COMPOSE) up --build --detach redis proxy

up-cluster: ## the same with a Redis Cluster of three primaries and three replicas; also for Redis clients, on 127.0.0.1:6380
	$(CLUSTER_STACK) up --build --detach

down: ## end the container stacks
	$(COMPOSE) --profile test down --volumes --remove-orphans
	$(CLUSTER_STACK) down --volumes --remove-orphans

logs: ## follow the logs of the container stack
	$(COMPOSE) logs --follow

test-compose: ## black-box tests of the container stack; ends by itself, with the status of the tests
	@$(TEST_STACK) build
	@status=0; $(TEST_STACK) up --exit-code-from proxy-test || status=$$?; \
	$(TEST_STACK) down --volumes --remove-orphans; exit $$status

bench: ## measure the program beside its peers, about 20 minutes; BENCH=--quick takes three
	@scripts/deps bench
	$(CARGO) build --release --locked -p redis-proxy -p bench
	@python3 bench/run.py $(BENCH)

bench-cache: deps ## measure the operations of the cache
	$(CARGO) bench --locked -p cache

instructions: ## count the instructions of a request; fails if a kind of request takes 1 % more than recorded
	@scripts/deps instructions
	$(CARGO) build --release --locked -p redis-proxy
	@python3 bench/instructions.py --check
