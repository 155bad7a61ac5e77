# Every target does its own set-up: Python 3.11 or newer and make are enough.

# The first interpreter that really runs (a version manager's stand-in may not)
# and can make an environment. 3.11 comes first: the parity tests have their
# torch there.
PYTHON ?= $(shell \
  for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
    if "$$name" -c 'import ensurepip, sys; \
      sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
    then command -v "$$name"; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: help demo test slow lint format clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    learn and question long documents with a small model'
	@echo 'make test    style and the quick tests'
	@echo 'make slow    the long tests; some fetch the small model'
	@echo 'make lint    style alone; make format mends most of it'
	@echo 'make clean   remove the environment and all caches, keep runs/'

demo: $(VENV)/.installed
	@$(BIN)/python train.py
	@$(BIN)/python eval.py

# Files stay whole, so that what a file sets up is set up once. Nearly all the
# time of tiny networks is compilation, so the compiler does its least.
test: lint
	@JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 \
	  --dist loadfile

slow: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -m slow -o timeout=1800 --numprocesses 2 \
	  --dist loadfile

lint: $(VENV)/.installed-test
	@echo 'Style (ruff):'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(VENV)/.installed-test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-312 .cache .pytest_cache .ruff_cache build dist \
	  *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
	  echo 'No Python 3.11 or newer with venv was found: install one,' \
	    'or name it with make PYTHON=/path/to/python.' >&2; exit 1; fi; \
	echo "Making $(VENV) with $$("$$python" --version)."; \
	"$$python" -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(BIN)/pip
	@echo 'Installing what lloco_jax needs (minutes, the first time).'
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(BIN)/pip
	@echo 'Installing what lloco_jax and its tests need (minutes, the first' \
	  'time).'
	@$(PIP) install --editable '.[test]'
	@touch $(VENV)/.installed $@
