# `make demo` and `make test` need nothing but Python 3.11 or newer; see README.md.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types test-cluster test-cluster-all benchmarks record clean

# The environment is made from the project's own files and made anew when they change.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(STAMP)  ## the checklist on two recorded meshes, no cluster needed
	@printf '\n--- the shop as it should be ---\n\n'
	-@cd example_suite && $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider --mesh-snapshot=../tests/data/shop.json --mesh-read-only --mesh-report=../demo-report/shop
	@printf '\n--- the same shop, with several faults ---\n\n'
	-@cd example_suite && $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider --mesh-snapshot=../tests/data/broken.json --mesh-read-only --mesh-report=../demo-report/broken
	@printf '\nThe same as a page, for a browser: demo-report/broken/readiness.html\n'

test: $(STAMP)  ## everything that needs no cluster, and the cluster's tests where a kubeconfig answers
	$(BIN)/python -m pytest tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

test-cluster: $(STAMP)  ## the healthy mesh, and one fault for each proof, on the cluster of the current kubeconfig
	$(BIN)/python -m pytest tests/cluster

test-cluster-all: $(STAMP)  ## every fault, live; takes long
	MESHREADY_ALL_FAULTS=1 $(BIN)/python -m pytest tests/cluster -v

benchmarks: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks -s

record: $(STAMP)  ## record the snapshots of tests/data anew on the real cluster
	$(BIN)/python -m tests.cluster.record

clean:
	rm -rf $(VENV) demo-report dist build .pytest_cache .mypy_cache .ruff_cache
