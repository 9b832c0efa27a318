# One short command for each chore. `make demo` needs Python 3.11 or newer and nothing else.

PYTHON ?= python3
BIN := .venv/bin
# torch first and pinned: a range would let the resolver fetch a newer build with gigabytes of GPU libraries.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

PEERS := transformers trl skyrl vllm
# Compiled while Hone is installed.
NATIVE := hatch_build.py src/hone/engine/native/fingerprint.py $(wildcard src/hone/engine/native/*.[ch])

# Servers and programs that the tests start would compile Hone again, each of them, where this is set.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo serve hone install test lint types imports unit kernels old-sdks format docs recipe recipe-results bench bench-check peers clean

demo: .venv/runtime.stamp
	$(BIN)/hone demo $(ARGS)

serve: .venv/runtime.stamp
	$(BIN)/hone serve $(ARGS)

# The command `hone` alone: `.venv/bin/hone`.
hone: .venv/runtime.stamp

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

# The kernels for GPUs in Triton's interpreter, and compiled; Triton is a gigabyte, so it is beside the rest.
kernels: .venv/dev.stamp .venv-triton/stamp
	PYTHONPATH=.venv-triton/lib $(BIN)/python -m pytest tests/unit/engine/backends $(ARGS)

# Old releases of the official SDK, which the contract tests run beside the present one.
old-sdks: .venv-sdk-0.24/stamp .venv-sdk-0.25/stamp

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The reference pages, from the code; a test fails when they are not what it says.
docs: .venv/dev.stamp
	$(BIN)/python -m docs.generate

# `make recipe NAME=maths_rl ARGS="seed=1"`; `make recipe-results NAME=maths_rl` measures it with three seeds.
recipe: .venv/dev.stamp
	$(BIN)/python -m recipes run $(NAME) $(ARGS)

recipe-results: .venv/dev.stamp
	$(BIN)/python -m recipes measure $(NAME) $(ARGS)

bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python benchmarks/server.py

# About two minutes; not part of `make test`, since a busy machine can make it fail.
bench-check: .venv/dev.stamp
	$(BIN)/python -m benchmarks.check $(ARGS)

# What `python -m benchmarks.peers` compares with: some 6 GB, each system in an environment of its own.
peers: .venv/dev.stamp $(PEERS:%=.venv-peers/%/stamp)

clean:
	rm -rf .venv .venv-sdk-* .venv-triton .venv-peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/runtime.stamp: pyproject.toml constraints.txt $(NATIVE)
	@echo "Installing Hone into .venv (once; a few minutes)"
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/dev.stamp: .venv/runtime.stamp
	$(PIP) -e '.[dev]'
	# Without its requirements, one of which cannot be had; those that the tests' comparisons need are in the dev extra.
	$(PIP) --no-deps tinker-cookbook==0.6.1
	@touch $@

.venv-triton/stamp: .venv/runtime.stamp constraints.txt
	@echo "Installing Triton into $(@D) (once)"
	rm -rf $(@D)
	$(PIP) --no-deps --target $(@D)/lib triton
	@touch $@

.venv-sdk-0.24/stamp: SDK := 0.24.1
.venv-sdk-0.25/stamp: SDK := 0.25.0
.venv-sdk-%/stamp: constraints.txt
	@echo "Installing tinker $(SDK) into $(@D) (once)"
	$(PYTHON) -m venv $(@D)
	grep -v '^tinker=' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet -c $(@D)/constraints.txt tinker==$(SDK)
	@touch $@

.venv-peers/%/stamp: benchmarks/peers/requirements/%.txt constraints.txt
	@echo "Installing $* into $(@D) (once; minutes)"
	$(PYTHON) -m venv $(@D)
	grep '^torch=' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet -c $(@D)/constraints.txt torch
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet -c $(@D)/constraints.txt -r $<
	# vLLM asks for these and samples text without them; builds for GPUs, which is what PyPI has, do not load beside ours.
	$(@D)/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@
