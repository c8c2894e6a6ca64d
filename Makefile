# On a fresh clone run `make quick` or `make test`. Each creates the environment that it needs.
# `make quick-test` runs one case of each test, but for tests that are marked slow.
# PYTHON=... picks another interpreter, with an environment of its own. WITH="jax==..." installs
# more packages, or other versions, there.

PYTHON ?= python3
WITH ?=
# What `make test` does first, and further arguments of pytest.
FIRST ?= lint
TESTS ?=
VERSION := $(if $(filter-out python3,$(PYTHON)),-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
VENV ?= .venv$(VERSION)
BIN := $(VENV)/bin
# One process runs all tests of a file, so that what they share is made once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: quick test quick-test lint book docs stacks

quick: $(VENV)/ready
	$(BIN)/flaxinit derive gelu
	$(BIN)/python -m benchmarks quick

test: $(VENV)/ready $(FIRST)
	$(PYTEST) $(TESTS)

quick-test: $(VENV)/ready
	$(PYTEST) --quick

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/mypy --python-executable $(BIN)/python

book: $(VENV)/ready
	$(BIN)/python -m derivations
	$(BIN)/flaxinit table --derive --json > flaxinit/catalogue.new
	mv flaxinit/catalogue.new flaxinit/catalogue.json

# Prints the address of the site, or what is wrong with it.
docs: $(VENV)/docs-ready
	@$(BIN)/python docs/build.py

stacks:
	$(PYTHON) tests/stacks.py

$(VENV)/ready: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet -e ".[test]" $(WITH)
	touch $@

# Says nothing unless it fails.
$(VENV)/docs-ready: pyproject.toml | $(BIN)/pip
	@$(BIN)/pip install --quiet -e ".[docs]" $(WITH) 2> $(VENV)/docs.log || { cat $(VENV)/docs.log; exit 1; }
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade pip
