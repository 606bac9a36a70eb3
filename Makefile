# Everything a contributor runs, the same here and in CI. Each target sets up what it needs and says what it does.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
PROTO_VENV := .cache/proto-venv
TRANSPORT_VENV := .cache/transport-venv
PROTOS := $(wildcard proto/issuer_api/v1/*.proto)
SOURCES := issuer agent_client issuer_testing tests bench
TEST_PROCESSES ?= 3
TRANSPORT_TESTS := tests/interop/test_grpc_clients.py $(addprefix tests/rpc/test_,transport_conformance.py transport_rotation.py native_transport.py native_shedding.py \
  caller_identity.py svid_vectors.py overload.py server.py workers.py revocations.py approvals.py access.py intents.py) \
  tests/unit/signing tests/unit/test_startup.py

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Set-up -----------------------------------------------------------------------------------------------------------

$(VENV)/.testing: requirements/testing.lock pyproject.toml scripts/setup-venv
	@scripts/setup-venv $(VENV) requirements/testing.lock
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.testing
	@scripts/setup-venv $(VENV) requirements/dev.lock
	@touch $@

$(PROTO_VENV)/.made: requirements/proto.lock
	@scripts/setup-venv $(PROTO_VENV) requirements/proto.lock --without-project
	@touch $@

$(TRANSPORT_VENV)/.made: requirements/transport.lock
	@scripts/setup-venv $(TRANSPORT_VENV) requirements/transport.lock --without-project
	@touch $@

.PHONY: dev
dev: $(VENV)/.dev ## Make the development environment in .venv

# --- The README's two commands ----------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.testing ## Show the product working, in a minute; on the embedded authority where no SPIRE is at hand
	@$(PY) examples/demo.py

.PHONY: demo-spire
demo-spire: $(VENV)/.testing ## The demo on a real SPIRE, which is built first where there is none (about 6 minutes, once)
	@$(PY) examples/demo.py --source spire

.PHONY: test
test: $(VENV)/.dev ## Run every test on a real SPIRE: as host processes, then in containers
	@scripts/ensure-docker
	@scripts/ensure-node
	@scripts/ensure-postgres
	@echo "==> getting a real SPIRE (built once and cached where there is none)"
	@$(PY) -m issuer_testing.spire.sources
	@echo "==> all tests, SPIRE as host processes"
	@# Most of them wait for other processes. A file's tests stay together, since they share what they started.
	@$(PY) -m pytest --spire=host --numprocesses=$(TEST_PROCESSES) --dist=loadfile --cov --cov-report= $(PYTEST_ARGS)
	@echo "==> the integration tests again, SPIRE in containers"
	@$(PY) -m pytest --spire=containers -m spire --cov --cov-append --cov-report= $(PYTEST_ARGS)
	@echo "==> coverage"
	@$(PY) -m coverage report --include='issuer/core/*' --fail-under=100
	@# The rest runs for a good part in child processes (issuer serve, the commands), which are not counted.
	@$(PY) -m coverage report --fail-under=80

.PHONY: test-java
test-java: $(VENV)/.dev ## Run the conformance suite with gRPC's Java client as well; needs a JDK and Maven
	@scripts/ensure-java
	@$(PY) -m pytest -m java $(PYTEST_ARGS)

.PHONY: transport
transport: $(VENV)/.testing $(TRANSPORT_VENV)/.made ## Build and install the native transport, which costs least; needs cargo
	@scripts/build-transport $(TRANSPORT_VENV) $(VENV)

.PHONY: test-transport
test-transport: $(VENV)/.dev transport ## Run on the native transport what attacks transports and identities, and Rust's own checks
	@scripts/ensure-node
	@echo "==> Rust: format, lint, tests"
	@cd transport && cargo fmt --check && cargo clippy --locked --release --all-targets -- -D warnings && cargo test --locked --release --quiet
	@echo "==> tests on the native transport"
	@$(PY) -m pytest --transport=native --numprocesses=$(TEST_PROCESSES) --dist=loadfile -m "not java" $(PYTEST_ARGS) $(TRANSPORT_TESTS)

# --- Checks -----------------------------------------------------------------------------------------------------------

.PHONY: check
check: $(VENV)/.dev $(PROTO_VENV)/.made ## Lint, format, types, import rules, protobuf; changes nothing
	@echo "==> ruff"; $(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@echo "==> mypy"; $(VENV)/bin/mypy
	@echo "==> import rules"; $(VENV)/bin/lint-imports
	@echo "==> buf lint"; scripts/lint-proto $(PROTO_VENV) $(VENV)
	@echo "==> generated code is up to date"; scripts/generate-proto $(PROTO_VENV) --check

.PHONY: fix
fix: $(VENV)/.dev ## Format, and mend what ruff can mend
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

.PHONY: proto
proto: $(PROTO_VENV)/.made ## Generate issuer_api from proto/
	@scripts/generate-proto $(PROTO_VENV)

.PHONY: lock
lock: $(VENV)/.dev ## Resolve the newest dependencies into requirements/*.lock
	@scripts/lock $(VENV)

.PHONY: fuzz
fuzz: $(VENV)/.dev ## Fuzz every parser that an outsider reaches, for FUZZ_SECONDS (60) each
	@for target in tests/fuzz/fuzz_*.py; do echo "==> $$target"; $(PY) $$target --seconds $${FUZZ_SECONDS:-60}; done

.PHONY: mutate
mutate: $(VENV)/.dev ## Change what decides, one piece at a time: each change must make a test fail (about 20 minutes)
	@$(PY) tests/mutation/mutate.py

# --- Speed ------------------------------------------------------------------------------------------------------------

.PHONY: bench
bench: $(VENV)/.dev ## Measure, beside references in the same run, in 10 minutes; writes bench/results/latest.json and .svg
	@scripts/ensure-node
	@scripts/ensure-postgres
	@if command -v cargo >/dev/null; then $(MAKE) --no-print-directory transport; else echo "native transport: left out, since it is built with cargo, which is not here"; fi
	@$(PY) -m bench $(BENCH_ARGS)

.PHONY: bench-compare
bench-compare: $(VENV)/.dev ## What became worse, as ratios: make bench-compare OLD=earlier.json [NEW=later.json]
	@$(PY) -m bench.compare $(or $(OLD),$(error say which earlier result: make bench-compare OLD=earlier.json)) $(NEW)

.PHONY: soak
soak: $(VENV)/.dev ## Run an issuer for SOAK_MINUTES (60) while everything changes: what grows, fails, or gets slower?
	@$(PY) -m bench.soak --minutes $${SOAK_MINUTES:-60} $(SOAK_ARGS)

.PHONY: clean
clean: ## Remove what the targets made (not the SPIRE cache, which is slow to rebuild)
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* dist build
