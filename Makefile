# Everything a person or CI runs. Each target makes its own .venv first, when that is missing or out of date.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
DEMO := studies/digits

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz check bench docs wheel constraints clean
.PRECIOUS: .venv/.%

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# One virtual environment; each stamp is an extra that it holds, so that `make demo` installs only what it runs.
.venv/.%: pyproject.toml constraints.txt
	@echo "Installing labelsmooth[$*] into .venv (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

setup: .venv/.study .venv/.dev .venv/.docs ## install everything for developers into .venv, in the tested versions

demo: .venv/.study ## run the digits study and write its report
	$(BIN)/labelsmooth study digits --out $(DEMO)

test: .venv/.study .venv/.dev ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --quiet

fuzz: .venv/.study .venv/.dev ## try thousands of damaged files on every reader
	LABELSMOOTH_FUZZ=1000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --quiet tests/fuzz

check: .venv/.study .venv/.dev ## formatting, lint, types, and the direction of imports
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layout.py

bench: .venv/.study .venv/.dev ## measure every claim beside its peers; results go to bench/results
	for name in cross_entropy linear policy_memory calibration all_coverage fused_head prediction_sets train; do $(BIN)/python bench/$$name.py || exit 1; done

docs: .venv/.study .venv/.docs ## build the documentation into site/
	$(BIN)/mkdocs build --strict

wheel: .venv/.dev ## build the wheel, check its metadata, and use it in an empty environment
	rm -rf dist && $(BIN)/python -m build --wheel --outdir dist --quiet .
	$(BIN)/python -m twine check --strict dist/*.whl
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd dist && venv/bin/python -c "import torch, labelsmooth as ls; print(ls.cross_entropy(torch.zeros(2, 4), torch.tensor([0, 1]), label_smoothing=0.1))"
	cd dist && venv/bin/labelsmooth --version

constraints: ## renew constraints.txt from what .venv holds
	$(BIN)/python tools/constraints.py > .constraints.new && mv .constraints.new constraints.txt

clean: ## remove .venv and everything generated
	rm -rf .venv site studies .hypothesis .mypy_cache .ruff_cache
