# Two commands on a fresh clone: `make quick` and `make test`. Each sets up what it needs.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: quick test lint book

quick: .venv/ready
	$(BIN)/flaxinit derive gelu
	$(BIN)/python -m benchmarks quick

test: .venv/ready lint
	$(BIN)/python -m pytest -n 2

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

book: .venv/ready
	$(BIN)/python -m derivations
	$(BIN)/flaxinit table --derive --json > flaxinit/catalogue.new
	mv flaxinit/catalogue.new flaxinit/catalogue.json

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e ".[test]"
	touch $@
