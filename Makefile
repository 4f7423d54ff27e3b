# The commands of this repository. Each makes what it needs first (`.venv`, from pyproject.toml), once:
# on a fresh machine `make demo` and `make test` are all there is to do. CI calls these and nothing else.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
EXAMPLES := $(VENV)/examples-ready
SUITES := $(VENV)/suites-ready
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
REQUIREMENTS := $(wildcard examples/requirements*.txt)

.PHONY: help demo test suites check lint types imports reference bench sim mutants docs clean

help:
	@echo "make demo    run real models on this machine; ends with a matrix people can read"
	@echo "make test    run every test (real nats-server, real processes)"
	@echo "make suites  the suites of other packages under plain pytest and pytest --dtf, case by case"
	@echo "make check   lint, formatting, types, import contracts, generated reference"
	@echo "make bench   measure the performance bars, print a table, write benchmarks/out/latest.json"
	@echo "make sim     simulate pools and faults, SEEDS=500 worlds; make mutants: break each rule, catch each"
	@echo "make docs    write the generated reference again"
	@echo "make clean   remove .venv and everything built"

demo: $(EXAMPLES)
	$(BIN)/dtf demo

test: $(EXAMPLES) $(SUITES)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

suites: $(EXAMPLES)
	PYTHONPATH=tests $(BIN)/python -m suites $(ARGS)

check: lint types imports reference

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy
	$(BIN)/mypy docs/generate.py docs/links.py docs/picture.py

imports: $(READY)
	$(BIN)/lint-imports --no-cache

reference: $(READY)
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/links.py

bench: $(EXAMPLES)
	$(BIN)/python -m dtf.benchmarks $(ARGS)

sim: $(READY)
	$(BIN)/python -m dtf.tests.sim --seeds $(or $(SEEDS),500) $(ARGS)

mutants: $(READY)
	$(BIN)/python -m dtf.tests.sim --mutants --seeds $(or $(SEEDS),500) $(ARGS)

docs: $(READY)
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/out

# `pip install --editable` gives metadata, dependencies and the console scripts. Its import hook is then replaced by one
# line of path: `.venv/src/dtf` is a link to this directory, so Python starts faster, and mypy and editors find `dtf`.
$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: dtf needs Python 3.11 or newer; found $$(python3 --version 2>&1 || true)." \
	  "Install one, or name it: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); } || { rm -rf $(VENV); \
	  echo "error: $(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing what dtf needs into $(VENV) (once) ..."
	@$(PIP) install --editable '.[dev]'
	@site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	  rm -f "$$site"/__editable__*dtf* "$$site"/__pycache__/__editable__*dtf* && \
	  rm -rf *.egg-info && mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/dtf && echo ../../../src > "$$site/dtf-src.pth"
	@touch $@

$(EXAMPLES): $(READY) $(REQUIREMENTS)
	@echo "Installing what the examples need into $(VENV) (once) ..."
	@$(PIP) install --requirement examples/requirements.txt
	@$(PIP) install --no-deps --requirement examples/requirements-nodeps.txt
	@touch $@

# The suites of other packages that `make test` runs: source distributions, pinned by their hash, kept out of this repository.
$(SUITES): $(READY) $(wildcard tests/suites/table.py tests/suites/fetch.py)
	@echo "Fetching the suites that pytest --dtf is compared with into $(VENV)/suites (once) ..."
	@PYTHONPATH=tests $(BIN)/python -m suites --fetch-kept
	@touch $@
