# perdure: everything a developer runs, by name. `make help` lists it.
# The first target that needs it creates .venv from requirements.lock (every file checked against its hash).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null)
VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin

# Extra arguments, as in: make test PYTEST_ARGS="-k cron -x"
PYTEST_ARGS ?=
# Most tests wait for processes half of the time. 0 is one after the other, in this process.
TEST_PROCESSES ?= 2
BENCH_ARGS ?=

# The reader is told what is happening: a first installation takes the better part of a minute.
# $(call install,VENV,LOCK): an environment holding exactly what LOCK pins.
define install
@$(PYTHON) -c 'import sys; sys.exit("perdure needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
@echo "==> $(1): installing $(2)"
@$(if $(UV),\
$(UV) venv --quiet --allow-existing --python $(PYTHON) $(1) && \
$(UV) pip sync --quiet --require-hashes --python $(1)/bin/python $(2),\
$(PYTHON) -m venv $(1) && \
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(2))
@touch $@
endef

# $(call develop,VENV): perdure itself, editable. No dependency and no build tool is resolved here:
# hatchling and editables come from the lock, so nothing unpinned is ever fetched.
define develop
@echo "==> $(1): installing perdure (editable)"
@$(if $(UV),\
$(UV) pip install --quiet --no-deps --no-build-isolation --python $(1)/bin/python --editable .,\
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .)
@touch $@
endef

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

.PHONY: venv
venv: $(VENV)/.developed ## create or refresh .venv

$(VENV)/.locked: requirements.lock
	$(call install,$(VENV),requirements.lock)

$(VENV)/.developed: $(VENV)/.locked pyproject.toml
	$(call develop,$(VENV))

.PHONY: demo
demo: venv ## what perdure promises, end to end: processes killed in the middle, the evidence
	$(BIN)/perdure demo

.PHONY: test
test: venv ## run the tests
	$(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Some 15 minutes. PERDURE_CLUSTER_SEED takes another course.
.PHONY: chaos
chaos: venv ## three nodes on one PostgreSQL, 10,000 runs, and 200 things that happen to them
	PERDURE_CLUSTER_ROUNDS=$${PERDURE_CLUSTER_ROUNDS:-200} PERDURE_CLUSTER_EVENTS=$${PERDURE_CLUSTER_EVENTS:-50} \
	    $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/chaos/test_cluster.py $(PYTEST_ARGS)

.PHONY: check
check: venv ## lint, format, types (mypy and pyright), import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache --no-logo

.PHONY: fmt
fmt: venv ## format the source and fix what ruff can fix
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

$(BENCH_VENV)/.locked: bench/requirements.lock
	$(call install,$(BENCH_VENV),bench/requirements.lock)

$(BENCH_VENV)/.developed: $(BENCH_VENV)/.locked pyproject.toml
	$(call develop,$(BENCH_VENV))

# Restate's server comes as an npm package; where it has no build for the machine, npm leaves it out.
bench/node_modules/.installed: bench/package-lock.json $(BENCH_VENV)/.locked
	@echo "==> bench/node_modules: installing bench/package-lock.json"
	@PATH="$(CURDIR)/$(BENCH_VENV)/bin:$$PATH" npm ci --prefix bench --ignore-scripts --no-audit --no-fund --loglevel=error
	@mkdir -p $(@D) && touch $@

.PHONY: bench
bench: $(BENCH_VENV)/.developed bench/node_modules/.installed ## measure perdure beside its peers (in an environment of its own)
	$(BENCH_VENV)/bin/python -m bench $(BENCH_ARGS)

.PHONY: bench-sdk
bench-sdk: venv ## measure apps on the protocol's SDKs (PyPI and npm)
	$(BIN)/python -m bench.sdk $(BENCH_ARGS)

.PHONY: bench-endpoints
bench-endpoints: venv ## measure durable endpoints beside the same handlers without durability
	$(BIN)/python -m bench.endpoints $(BENCH_ARGS)

.PHONY: bench-agents
bench-agents: venv $(BENCH_VENV)/.developed ## measure durable agents beside the bare loop, and pydantic-ai on DBOS
	$(BIN)/python -m bench.agents --peer $(BENCH_VENV)/bin/python $(BENCH_ARGS)

.PHONY: bench-agents-http
bench-agents-http: venv ## measure agents over HTTP: what it adds, how late chunks are, 500 streams at once
	$(BIN)/python -m bench.agents_http $(BENCH_ARGS)

# The locks carry hashes and no addresses, so that any registry or mirror serves them.
# --upgrade takes the newest versions that pyproject.toml admits.
.PHONY: lock
lock: ## resolve all locks again: requirements.lock, bench's and deploy's (needs uv and npm)
	@command -v uv >/dev/null || { echo "make lock needs uv (pip install uv)"; exit 1; }
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --all-extras --group dev --output-file requirements.lock pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --group bench --output-file bench/requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --constraint requirements.lock \
	    --all-extras --output-file deploy/requirements.lock pyproject.toml
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
	    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --constraint requirements.lock \
	    --output-file deploy/build.lock -
	rm -f bench/package-lock.json tests/interop/sdk/package-lock.json tests/support/chromium/package-lock.json tests/support/postgres_versions/package-lock.json
	for folder in bench tests/interop/sdk tests/support/chromium tests/support/postgres_versions; do \
	    npm install --prefix $$folder --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund && \
	    $(PYTHON) -c 'import json, sys; path = sys.argv[1]; lock = json.load(open(path)); [p.pop("funding", None) for p in lock["packages"].values()]; open(path, "w").write(json.dumps(lock, indent=2) + "\n")' $$folder/package-lock.json; \
	done

.PHONY: clean
clean: ## remove environments, caches and build products
	rm -rf $(VENV) $(BENCH_VENV) bench/node_modules tests/interop/sdk/node_modules tests/interop/sdk/v3/node_modules tests/support/chromium/node_modules tests/support/postgres_versions/node_modules build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf .coverage .coverage.* htmlcov
	find src tests bench examples -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
