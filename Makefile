# `make help` lists what people run. CI runs the same.
.DEFAULT_GOAL := help
.PHONY: help setup setup-test up test test-unit test-kernel test-integration test-faults test-e2e soak lint bench bench-smoke setup-bench docs sizes lock clean

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
MINUTES ?= 30

help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: [^#]*##/\t/' | expand -t 18

setup:           ## packages, kernel headers, virtual environment, Kafka's jars
	@deploy/local/setup.sh run

setup-test:      ## setup, and what only the tests need
	@deploy/local/setup.sh test

up: setup        ## everything on this machine: capture, Kafka, ClickHouse, console (as root; ARGS="--interface eth0")
	@.venv/bin/ayaflow up $(ARGS)

# Two groups at a time, each in namespaces of its own; the output of the second comes when the first has ended.
test: setup-test ## all tests, with real Kafka, kernel and ClickHouse (as root)
	@tests/apart.sh $(PYTEST) tests/integration -m "not wide" > .test-integration.log 2>&1 & other=$$!; \
	 $(MAKE) --no-print-directory --keep-going lint test-unit; quick=$$?; \
	 tests/apart.sh $(PYTEST) tests --ignore tests/unit --ignore tests/integration -m "not wide and not faults"; first=$$?; \
	 wait $$other; second=$$?; cat .test-integration.log; exit $$((quick | first | second))

test-unit:       ## tests that need no root, broker or network; seconds
	$(PYTEST) tests/unit

test-kernel:     ## tests of the kernel program (as root)
	$(PYTEST) tests/kernel

test-integration: ## tests with real Kafka and ClickHouse
	$(PYTEST) tests/integration

test-faults:     ## each part killed, stopped, harmed, alone and all in one; an hour, as root (SEEDS=20 seeded runs)
	@tests/apart.sh $(PYTEST) tests/faults -rA; code=$$?; cat docs/benchmarks/faults.md; exit $$code

soak:            ## steady traffic; memory of each process, its slope in MB an hour (as root; MINUTES=30)
	tests/apart.sh $(PYTHON) -m tests.faults.soak --minutes $(MINUTES)

test-e2e:        ## whole pipeline in network namespaces; each part with its extra alone (as root)
	$(PYTEST) tests/e2e tests/ship

sizes:           ## what each extra of the package takes on disk (docs/operations.md)
	$(PYTHON) -m tests.ship.extras

lint:            ## ruff (lint and format) and mypy --strict
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

bench: setup-bench ## measure everything, under 15 minutes (as root); writes docs/benchmarks; one: make bench-kernel
	$(PYTHON) -m tests.bench

bench-smoke:     ## ratios to baselines of the same run, with wide bounds; part of make test
	$(PYTEST) tests/bench

bench-%: setup-bench
	$(PYTHON) -m tests.bench $*

setup-bench:     ## setup-test, and the programs that we are compared with
	@deploy/local/setup.sh bench

docs:            ## write docs/configuration.md and docs/metrics.md from the code
	$(PYTHON) docs/make_configuration.py
	PYTHONPATH=. $(PYTHON) docs/make_metrics.py

lock:            ## write the installed versions to constraints.txt
	@{ echo "# The versions that were tested together; pip install -c constraints.txt. Made by: make lock"; \
	   .venv/bin/pip freeze --local --exclude-editable; } > constraints.txt

clean:           ## remove what setup and the tests made in this checkout
	rm -rf .venv .venv-bench .wheels .extras-* deploy/local/jars tests/integration/registry build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
