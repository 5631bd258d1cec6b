# Everything runs in .venv, which the first target to need it makes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DIST := build/dist-venv
READY := $(VENV)/.ready
# Or PIP="uv pip install --python .venv".
PIP ?= $(BIN)/python -m pip install --quiet

.PHONY: demo test test-slow test-full test-gpu check format docs dist clean

# A few minutes: metaprompts-demo/report.html.
demo: $(READY)
	$(BIN)/metaprompts demo

# One thread for each of the two workers: more would wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# What takes seconds each.
test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

test-full: $(READY)
	$(BIN)/python -m pytest -m full

# On a machine with an NVIDIA GPU, where torch is a CUDA build: at most 8 minutes, of which 4 measure.
test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu -v tests/engines/test_devices.py tests/training/test_devices.py
	$(BIN)/python benchmarks/gpu.py --minutes 4 --out results/gpu

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# docs/_build/index.html; needs no network.
docs: $(READY)
	$(PIP) --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build

# The wheel and the source distribution. Needs only build and twine, in an environment of their own.
dist:
	test -x $(DIST)/bin/python || $(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python -m pip install --quiet 'build>=1.2' 'twine>=6.1'
	rm -rf dist
	$(DIST)/bin/python -m build
	$(DIST)/bin/python -m twine check --strict dist/*
	$(DIST)/bin/python scripts/check_dist.py dist

# Made anew only when what is to be installed has changed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist build docs/_build docs/generated
