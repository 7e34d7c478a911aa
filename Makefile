# `make demo` shows what the library does, `make check` is everything that must be green before a change lands.

PYTHON ?= python3
VENV ?= .venv
# Installed before the package. Plain `torch` brings several gigabytes of CUDA libraries on Linux; with this one version a CPU build is taken
# wherever the index offers one, and tests see the same arithmetic everywhere. The package itself does not pin torch.
# On a machine with a GPU, in a fresh environment: make test VENV=.venv-gpu TORCH=torch
TORCH ?= torch==2.13.0
# More arguments for pytest: make test ARGS="-k tokens -x"; ARGS="-n 0" runs them in one process, for a debugger.
ARGS ?=
# One process a core with one thread each: small networks gain little from a second thread, and lose much where another process runs.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test test-shared lint format check build clean

demo: $(VENV)/.cli
	$(BIN)/python examples/encode_decode.py

test: $(VENV)/.dev
	$(PYTEST) -m "not shared and not gpu and not network" $(ARGS)

# Needs the data folder ../shared beside the checkout.
test-shared: $(VENV)/.dev
	$(PYTEST) -m "shared and not gpu and not network" $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint test

# Source archive and wheel into dist/, the wheel built from the archive.
build: $(VENV)/.dev
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis

# Empty stamp files: an environment is installed once, and again only after pyproject.toml has changed.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	touch $@

$(VENV)/.cli: $(VENV)/.torch pyproject.toml
	$(PIP) --editable ".[cli]"
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) --editable ".[dev]"
	touch $@
