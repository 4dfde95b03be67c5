# `make help` lists what people run. CI runs the same.
.DEFAULT_GOAL := help
.PHONY: help setup setup-test up demo test test-wide test-unit test-kernel test-integration fuzz names-recall test-chart manifests test-faults test-hostile test-e2e test-ship test-cluster test-replica test-clients test-consumers soak coverage objects lint format bench bench-smoke setup-bench docs site images sizes wheel lock audit-dependencies clean

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
SLOWEST := --durations=15 --durations-min=1
MINUTES ?= 30
COVERAGE_TESTS ?= tests/unit tests/integration -m "not wide"
C_FILES := $(wildcard ayaflow/*/*.c bpf/*.[ch] producer/*/*.c producer/*/*/*.c schemas/*/*.c tests/*/*.c)
SHELL_FILES := .ci/run $(wildcard deploy/*/*.sh deploy/*/*/*.sh tests/*.sh tests/ship/*.sh tests/ship/*/*.sh)

help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: [^#]*##/\t/' | expand -t 18

setup:           ## packages, kernel headers, virtual environment, Kafka's jars
	@deploy/local/setup.sh run

setup-test:      ## setup, and what only the tests need
	@deploy/local/setup.sh test

up: setup        ## everything on this machine: capture, Kafka, ClickHouse, console (as root; ARGS="--interface eth0")
	@.venv/bin/ayaflow up $(ARGS)

demo: setup      ## made-up traffic in namespaces of its own, through the real system; leaves nothing behind (as root)
	@.venv/bin/ayaflow demo $(ARGS)

# Five groups at a time, each in namespaces of its own, since tests wait more than they compute; the output of the others
# comes when the first has ended. What is in none of the lists runs with the first.
HERE := not faults and not speed and not ship and not cluster
SHORT := not wide and $(HERE)
GROUP := tests/apart.sh $(PYTEST) $(SLOWEST) -m
SECOND := $(wildcard tests/integration/test_[ac]*.py)
THIRD := $(wildcard tests/integration/test_[e-g]*.py tests/integration/test_[o-r]*.py)
FOURTH := tests/e2e $(wildcard tests/integration/test_[mn]*.py)
FIFTH := tests/kernel tests/faults tests/consumers $(wildcard tests/integration/test_[dt]*.py)
test: setup-test ## all but what is wide, with real Kafka, kernel and ClickHouse (as root)
	@$(GROUP) "$(SHORT)" $(SECOND) > .test-second.log 2>&1 & second=$$!; \
	 $(GROUP) "$(SHORT)" $(THIRD) > .test-third.log 2>&1 & third=$$!; \
	 $(GROUP) "$(SHORT)" $(FOURTH) > .test-fourth.log 2>&1 & fourth=$$!; \
	 $(GROUP) "$(SHORT)" $(FIFTH) > .test-fifth.log 2>&1 & fifth=$$!; \
	 $(MAKE) --no-print-directory --keep-going lint test-unit; quick=$$?; \
	 $(GROUP) "$(SHORT)" tests --ignore tests/unit $(addprefix --ignore ,$(SECOND) $(THIRD) $(FOURTH) $(FIFTH)); first=$$?; \
	 wait $$second; second=$$?; cat .test-second.log; \
	 wait $$third; third=$$?; cat .test-third.log; \
	 wait $$fourth; fourth=$$?; cat .test-fourth.log; \
	 wait $$fifth; fifth=$$?; cat .test-fifth.log; exit $$((quick | first | second | third | fourth | fifth))

test-wide: setup-test ## what make test leaves out: more of the same kinds, each extra installed alone (as root; 10 minutes)
	@$(GROUP) "wide and $(HERE)" tests/integration > .test-second.log 2>&1 & second=$$!; \
	 MODEL_RUNS=1000 $(PYTEST) tests/unit/streams/partition/test_exactly_once.py; model=$$?; \
	 $(GROUP) "wide and $(HERE)" tests --ignore tests/unit --ignore tests/integration; first=$$?; \
	 wait $$second; second=$$?; cat .test-second.log; exit $$((model | first | second))

test-unit:       ## tests that need no root, broker or network; seconds
	$(PYTEST) tests/unit

test-kernel:     ## tests of the kernel program, as bcc compiles it and as an object (as root)
	TEST_LOADER=bcc $(PYTEST) tests/kernel
	TEST_LOADER=object $(PYTEST) tests/kernel

test-integration: ## tests with real Kafka and ClickHouse
	$(PYTEST) tests/integration

test-clients: setup-test ## the ClickHouse clients of five languages at their defaults; installs them in tests/clients/.work
	$(PYTHON) -m tests.clients $(CLIENTS)

test-consumers: setup-test ## the engines of docs/consumers, each as its page says, equal to the audit (as root; ENGINES="go rust")
	$(PYTHON) -m tests.consumers prepare $(ENGINES)
	tests/apart.sh $(PYTHON) -m tests.consumers run $(ENGINES)

coverage: setup-test ## branches that the unit and integration tests run, by package, subprocesses too (as root)
	@rm -rf .coverage-data && mkdir .coverage-data
	@tests/apart.sh $(PYTHON) -m coverage run -m pytest $(COVERAGE_TESTS); code=$$?; \
	 $(PYTHON) -m coverage combine --quiet && $(PYTHON) -m tests.coverage_table; exit $$code

fuzz:            ## five million changed messages to each parser of names, half an hour (INPUTS=5000000)
	$(PYTHON) -m tests.names.fuzz $(INPUTS)

names-recall:    ## names in captures as we read them and as tshark does (as root; CAPTURES=folder)
	@tests/apart.sh $(PYTHON) -m tests.names.recall $(CAPTURES)

test-chart: setup-test ## the Helm chart by Helm's own code, which is built once (needs go, some minutes)
	@cd tests/ship/chart && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o $(CURDIR)/.venv/bin/ayaflow-chart .
	$(PYTEST) tests/ship/test_chart.py

manifests:       ## write deploy/kubernetes/ayaflow.yaml and the golden one of the tests from the chart (after make test-chart)
	@for each in deploy/kubernetes/values.yaml:deploy/kubernetes/ayaflow.yaml tests/ship/golden_values.yaml:tests/ship/golden_chart.yaml; do \
	   { echo "# Made by make manifests from deploy/chart, with $${each%:*}."; \
	     .venv/bin/ayaflow-chart template ayaflow ayaflow deploy/chart $${each%:*}; } > $${each#*:} || exit 1; done

test-faults:     ## each part killed, stopped, harmed, alone and all in one; an hour, as root (SEEDS=20 seeded runs)
	@tests/apart.sh $(PYTEST) tests/faults -rA; code=$$?; cat docs/benchmarks/faults.md; exit $$code

test-hostile:    ## an hour among hostile neighbours: poison, clocks, interfaces, silence; as root (SECONDS_HOSTILE=3600 SEED=1)
	@tests/apart.sh $(PYTEST) tests/hostile/test_hour.py -rA -s

soak:            ## steady traffic; memory of each process, its slope in MB an hour (as root; MINUTES=30)
	tests/apart.sh $(PYTHON) -m tests.faults.soak --minutes $(MINUTES)

test-e2e:        ## whole pipeline in network namespaces; each part with its extra alone (as root)
	$(PYTEST) tests/e2e tests/ship

# What needs the images, which are built once for it, beside all else.
WITH_IMAGES := $(patsubst %,tests/ship/test_%.py,images compose pod units)
test-ship:       ## builds the images, runs compose and the units, installs a Debian 13; each to counted packets (as root; 15 minutes)
	@deploy/local/setup.sh ship
	@tests/ship/run.sh $(SLOWEST) tests/ship $(addprefix --ignore ,$(WITH_IMAGES)) > .test-ship.log 2>&1 & others=$$!; \
	 tests/ship/run.sh $(SLOWEST) $(WITH_IMAGES); images=$$?; \
	 wait $$others; others=$$?; cat .test-ship.log; exit $$((images | others))

test-cluster: setup-test ## the chart applied to a real kube-apiserver, which is compiled once (as root; needs go, then 15 minutes of CPU)
	@deploy/local/setup.sh cluster
	tests/apart.sh $(PYTEST) -m cluster tests/ship/test_cluster.py

test-replica: setup-test ## the tables of a ClickHouse cluster made against a real ZooKeeper (installs Debian's)
	@deploy/local/setup.sh replica
	tests/apart.sh $(PYTEST) tests/integration/test_cluster_tables.py

images:          ## the images of deploy/images by buildah, with their sizes (as root; IMAGES="producer console")
	@deploy/local/setup.sh ship
	deploy/images/build.sh $(IMAGES)

sizes:           ## what each extra of the package takes on disk (docs/operations.md)
	$(PYTHON) -m tests.ship.extras

objects:         ## bpf/objects: the kernel program, compiled beforehand for capture.loader object; after a change of bpf/
	$(PYTHON) -m producer.kernel.load.objects

lint:            ## ruff (lint and format), mypy --strict, clang-format, shellcheck, tsc
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	.venv/bin/clang-format --dry-run --Werror $(C_FILES)
	.venv/bin/shellcheck $(SHELL_FILES)
	.venv/typescript/node_modules/.bin/tsc --project console/jsconfig.json
	$(PYTHON) -m mypy

format:          ## put Python and C into the look that lint asks for
	$(PYTHON) -m ruff format .
	.venv/bin/clang-format -i $(C_FILES)

bench: setup-bench ## measure everything, under 15 minutes (as root); writes docs/benchmarks; one: make bench-kernel
	$(PYTHON) -m tests.bench

bench-smoke:     ## ratios to baselines of the same run, with wide bounds; on a machine with nothing else to do
	$(PYTEST) tests/bench

bench-%: setup-bench
	$(PYTHON) -m tests.bench $*

setup-bench:     ## setup-test, and the programs that we are compared with
	@deploy/local/setup.sh bench

docs:            ## write docs/configuration.md, metrics.md, architecture.md, topics.md, asyncapi.json and Grafana's dashboards
	$(PYTHON) docs/make_configuration.py
	PYTHONPATH=. $(PYTHON) docs/make_metrics.py
	PYTHONPATH=. $(PYTHON) docs/make_messages.py
	PYTHONPATH=. $(PYTHON) docs/make_architecture.py
	$(PYTHON) -m deploy.grafana.boards

site:            ## dist/site: README.md and docs/ as a site; a link that leads nowhere is an error
	@npm install --silent --no-audit --no-fund --prefix .venv/mermaid mermaid@11
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet
	@echo dist/site/index.html

wheel:           ## dist/ayaflow-….whl with the compiled parts; fails without them
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	@$(PYTHON) -m zipfile --list dist/ayaflow-*.whl | grep -cE '[.](so|o) ' | grep -qx "$$(( $$(grep -c '^\[\[tool.setuptools.ext-modules' pyproject.toml) + 8 ))" || { echo "the wheel lacks a compiled part: are gcc and clang installed?"; exit 1; }
	@ls dist

lock:            ## write the installed versions to constraints.txt, and those of each part with hashes to deploy/requirements
	@{ echo "# The versions that were tested together; pip install -c constraints.txt. Made by: make lock"; \
	   $(PYTHON) -m pip freeze --local --exclude-editable; } > constraints.txt
	@deploy/requirements/lock.sh

audit-dependencies: ## asks PyPI's advisories about each dependency of deploy/requirements; exit code 1: one has a known weakness
	@deploy/requirements/audit.sh

clean:           ## remove what setup and the tests made in this checkout
	rm -rf .venv .venv-bench .venv-lock .ship .wheels .coverage-data .extras-* deploy/local/jars deploy/local/kafka/classes.jsa* tests/integration/registry build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bpf/objects
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
