# One command each; see README.md. Paths with spaces are fine: nothing here depends on the folder.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LANES := -n auto --dist loadscope --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install run test test-fast test-pythons test-clients docs check format bench chaos clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/'

install: $(VENV)/.installed  ## make .venv and install the application

$(VENV)/.installed: requirements.txt constraints.txt
	@$(PYTHON) tools/install.py requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements.txt constraints.txt requirements-dev.txt
	@$(PYTHON) tools/install.py requirements-dev.txt
	@touch $@ $(VENV)/.installed

run: $(VENV)/.installed  ## PostgreSQL, daemon and dashboard; Ctrl-C stops all (ARGS=--no-browser)
	@exec $(BIN)/python -m pairs $(ARGS)

test: $(VENV)/.installed-dev  ## the whole test suite
	@exec $(BIN)/python -m pytest $(LANES)

test-fast: $(VENV)/.installed-dev  ## before every commit: no processes, no browser
	@exec $(BIN)/python -m pytest --fast -q $(LANES)

test-pythons: $(VENV)/.installed-dev  ## the fast tests under the other Pythons that are installed
	@exec $(BIN)/python tools/pythons.py

test-clients:  ## other people's clients of Binance, unmodified, on the local exchange
	@exec $(PYTHON) tools/clients.py

docs:  ## the documentation as a site, under site/, the API from its docstrings
	@exec $(PYTHON) tools/docs.py

check: $(VENV)/.installed-dev  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what was installed and generated; data stay
	rm -rf $(VENV) .venv-3.* .venv-clients .venv-docs site static .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.installed-bench: $(VENV)/.installed-dev benchmarks/requirements.txt
	@$(PYTHON) tools/install.py benchmarks/requirements.txt
	@touch $@

bench: $(VENV)/.installed-bench  ## the benchmarks, each beside its peer, into benchmarks/RESULTS.md
	@exec $(BIN)/python -m benchmarks

chaos: $(VENV)/.installed-dev  ## every fault scenario, 100 random kills; CHAOS_SEED=N repeats it
	@$(BIN)/python tools/chaos.py
