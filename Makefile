# One-word commands for people and for CI. `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test check bench bench-peers bench-quick bench-soak bench-parts docs clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.ready  ## start the whole system with topology.toml, data in ./data
	$(BIN)/imesh up topology.toml

test: $(VENV)/.ready check  ## lint, types and the whole test suite
	$(BIN)/python -m tests

check: $(VENV)/.ready  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.bench  ## measure the system in all its settings: 16 to 18 minutes, tables, build/bench.json, docs/img
	@mkdir -p build
	$(BIN)/python -m bench.suite --json build/bench.json

bench-peers: $(VENV)/.bench  ## the same loads for ejabberd, Prosody and mosquitto (installs them; root, Debian)
	@mkdir -p build
	$(BIN)/python -m bench.peers --json build/bench-peers.json

bench-quick: $(VENV)/.ready  ## a look at the hot paths in a minute, beside what was recorded last
	$(BIN)/python -m bench.quick

bench-soak: $(VENV)/.bench  ## ten minutes of steady load: memory must stay flat
	@mkdir -p build
	$(BIN)/python -m bench.soak --json build/bench-soak.json

bench-parts: $(VENV)/.bench  ## measure the parts: calls, publications, chat, groups, bytes of Redis, pushes, searches, archive
	$(BIN)/python -m bench.rpc
	$(BIN)/python -m bench.fanout
	$(BIN)/python -m bench.chat
	$(BIN)/python -m bench.group
	$(BIN)/python -m bench.http
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.push
	$(BIN)/python -m bench.search --rows 100000
	$(BIN)/python -m bench.archive --rows 1000000

docs: $(VENV)/.ready  ## rewrite the tables of the docs from the code
	$(BIN)/python docs/reference.py

clean:  ## remove the virtual environment and caches (data stay)
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "imesh needs Python 3.11 or newer; $$($(PYTHON) --version) found. Set PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@command -v redis-server >/dev/null || test -x $(BIN)/redis-server || \
	  { echo "no redis-server: the bundled one has no build for this machine: apt install redis-server" >&2; exit 1; }
	@touch $@

$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@
