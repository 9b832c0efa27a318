# One short command for each chore. `make demo` needs Python 3.11 or newer and nothing else.

PYTHON ?= python3
BIN := .venv/bin
# torch first and pinned: a range would let the resolver fetch a newer build with gigabytes of GPU libraries.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo serve install test lint types imports unit old-sdks format bench clean

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

unit: .venv/dev.stamp old-sdks
	$(BIN)/python -m pytest $(ARGS)

# Old releases of the official SDK, which the contract tests run beside the present one.
old-sdks: .venv-sdk-0.24/stamp .venv-sdk-0.25/stamp

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev.stamp
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/server.py

clean:
	rm -rf .venv .venv-sdk-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/runtime.stamp: pyproject.toml constraints.txt
	@echo "Installing Hone into .venv (once; a few minutes)"
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/dev.stamp: .venv/runtime.stamp
	$(PIP) -e '.[dev]'
	# Without its requirements: the tests compare with the few of its functions that need none beyond ours.
	$(PIP) --no-deps tinker-cookbook==0.6.1
	@touch $@

.venv-sdk-0.24/stamp: SDK := 0.24.1
.venv-sdk-0.25/stamp: SDK := 0.25.0
.venv-sdk-%/stamp: constraints.txt
	@echo "Installing tinker $(SDK) into $(@D) (once)"
	$(PYTHON) -m venv $(@D)
	grep -v '^tinker=' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet -c $(@D)/constraints.txt tinker==$(SDK)
	@touch $@
