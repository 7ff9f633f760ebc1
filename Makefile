# Everything a person or CI runs. Each target makes its own .venv first, when that is missing or out of date.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := studies/digits

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench docs constraints clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv (a few minutes the first time) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[study,dev,docs]'
	@touch $@

setup: $(READY) ## make .venv with the tested versions

demo: $(READY) ## run the digits study and write its report
	$(BIN)/labelsmooth study digits --out $(DEMO)

test: $(READY) ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --quiet

check: $(READY) ## formatting, lint, types, and the direction of imports
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layout.py

bench: $(READY) ## measure every claim beside its peers; results go to bench/results
	for name in cross_entropy linear policy_memory calibration calibration_coverage train; do $(BIN)/python bench/$$name.py || exit 1; done

docs: $(READY) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

constraints: ## renew constraints.txt from what .venv holds
	$(BIN)/python tools/constraints.py > .constraints.new && mv .constraints.new constraints.txt

clean: ## remove .venv and everything generated
	rm -rf .venv site studies .hypothesis .mypy_cache .ruff_cache
