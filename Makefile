# One short command for each chore. `make demo` needs Python 3.11 or newer and nothing else.

PYTHON ?= python3
BIN := .venv/bin
# torch first and pinned: a range would let the resolver fetch a newer build with gigabytes of GPU libraries.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo serve install test lint types imports unit format bench clean

demo: .venv/runtime.stamp
	$(BIN)/hone demo $(ARGS)

serve: .venv/runtime.stamp
	$(BIN)/hone serve $(ARGS)

install: .venv/dev.stamp

test: lint types imports unit

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.stamp
	$(BIN)/mypy

imports: .venv/dev.stamp
	$(BIN)/lint-imports

unit: .venv/dev.stamp
	$(BIN)/python -m pytest $(ARGS)

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev.stamp
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/server.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/runtime.stamp: pyproject.toml constraints.txt
	@echo "Installing Hone into .venv (once; a few minutes)"
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/dev.stamp: .venv/runtime.stamp
	$(PIP) -e '.[dev]'
	@touch $@
