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

.PHONY: help demo test slow tpu tpu-all lint format clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    learn and question long documents with a small model'
	@echo 'make test    style and the quick tests'
	@echo 'make slow    the long tests; some fetch the small model'
	@echo 'make tpu     LLaMA2-7B compiled for TPUs, which need not be there;' \
	  'make tpu-all compiles all'
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

tpu: MARKER := tpu
tpu-all: MARKER := slow
tpu tpu-all: $(VENV)/.installed-test
	@$(MAKE) --no-print-directory $(VENV)/tpu/.installed || { \
	  echo 'The compiler for TPUs cannot be installed here: its tests are' \
	    'left out.'; exit 0; }; \
	PYTHONPATH=$(abspath $(VENV)/tpu) $(BIN)/python -m pytest -m $(MARKER) --durations=0 \
	  tests/test_plan.py

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

# What `jax[tpu]` asks for, apart from the rest: where it is installed JAX looks
# for a TPU.
$(VENV)/tpu/.installed: $(VENV)/.installed-test
	@echo 'Installing the compiler for TPUs (700 MB).'
	@pin=$$($(BIN)/python -c 'from importlib.metadata import requires; \
	  print(*(x.split(";")[0] for x in requires("jax") if "libtpu" in x))') && \
	$(PIP) install --no-deps --upgrade --target $(VENV)/tpu "$$pin"
	@touch $@
